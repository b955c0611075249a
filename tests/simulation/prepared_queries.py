"""Builds the SQL of each kind of query only once. The code of the project runs the same 200 kinds again and again.

A queryset records the calls that define it, see `recorded_querysets`. When it is executed, the recorded calls without
their values are the key of a prepared statement. Only the first execution of a kind builds the SQL, with Django's own
code: it replays the calls with a marker in place of each value, and finds in the parameters of the SQL which value
belongs where. Later executions fill in their values.

If anything else is done with a queryset, or if a marker cannot be found in the parameters, Django builds the query as
usual. With `check`, each execution compares its SQL and parameters with those that Django builds.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from functools import wraps
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models, transaction
from django.db.models import Count, QuerySet, sql
from django.db.models.deletion import Collector
from django.db.models.sql.constants import ROW_COUNT, SINGLE

from tests.simulation import recorded_querysets
from tests.simulation.query_shapes import MARKERS, NotPrepared, Place, forms, marked_calls, shape, shape_of_call
from tests.simulation.recorded_querysets import originals, recorded, replay

_statements: dict[Any, Any] = {}
UNKNOWN = object()
"""In place of the statement of a kind that was not executed before. None stands for a kind that Django builds."""

_connection: Any = None
"""The only connection, so that it need not be looked up for each value."""

check = False
differences: list[str] = []
"""What `check` has found."""


class Statement:
    """The compiled query of one kind of statement. `bind` fills in the values of one execution."""

    def __init__(self, queryset: Any, query: Any, markers: list[Any]) -> None:
        self.queryset = queryset
        connection = connections["default"]
        self.compiler = query.get_compiler("default")
        self.sql, params = self.compiler.as_sql()
        known = {
            form: (number, adapt)
            for number, marker in enumerate(markers)
            for form, adapt in forms(marker, connection).items()
        }
        self._places = [known.get(_plain(param), (-1, param)) for param in params]
        if not self.sql or {number for number, _ in self._places} - {-1} != set(range(len(markers))):
            raise NotPrepared
        self._params: tuple[Any, ...] = ()
        self.compiler.as_sql = lambda: (self.sql, self._params)
        query.get_compiler = lambda using: self.compiler  # noqa: ARG005 - Django's signature
        if not isinstance(query, sql.UpdateQuery | sql.DeleteQuery):
            converters = self.compiler.get_converters([selected[0] for selected in self.compiler.select])
            self.compiler.get_converters = lambda _expressions: converters

    def bind(self, values: list[Any]) -> None:
        self._params = tuple(adapt if number < 0 else adapt(values[number]) for number, adapt in self._places)


def _plain(param: Any) -> Any:
    return bytes(param) if isinstance(param, memoryview) else param


def _statement(queryset: Any, kind: str, changes: list[tuple[Any, Any]] = []) -> Statement | None:  # noqa: B006 - read only
    """Return the statement of a recorded queryset, with its values, or None if Django has to build the query.

    `changes` are the fields that an UPDATE writes, each with an expression or with a value of the database, or the
    names and expressions of an aggregation.
    """
    values: list[Any] = []
    try:
        calls = tuple(shape_of_call(call, values) for call in queryset._calls)
        count = len(values)
        written = []
        for field, value in changes:
            written.append((field, Place if _is_value(value) else shape(value, values, is_name=True)))
        if len(values) > count:
            return None
        key = type(queryset), queryset.model, kind, calls, *written
        statement = _statements.get(key, UNKNOWN)  # looked up only once, because hashing the key takes long
        if statement is UNKNOWN:
            statement = None
            with suppress(Exception):  # Django raises it again when it builds the query
                statement = _prepare(queryset, kind, changes, values)
            _statements[key] = statement
    except NotPrepared:
        return None
    if statement:
        statement.bind(values + [value for _field, value in changes if _is_value(value)])
        if check:
            _check(statement, queryset, kind, changes, values)
    found: Statement | None = statement
    return found


def _prepare(queryset: Any, kind: str, changes: list[tuple[Any, Any]], values: list[Any]) -> Statement:
    built = replay(queryset, marked_calls(queryset._calls, itertools.count()))
    marked = _with_places(changes, len(values))
    markers = [MARKERS[type(value)](number) for number, value in enumerate(values)]
    markers += [value for _field, value in marked if isinstance(value, Place)]
    return Statement(built, _query(built, kind, marked), markers)


def _with_places(changes: list[tuple[Any, Any]], first: int) -> list[tuple[Any, Any]]:
    numbers = itertools.count(first)
    return [(field, Place(next(numbers)) if _is_value(value) else value) for field, value in changes]


def _is_value(value: Any) -> bool:
    return value is not None and not hasattr(value, "resolve_expression")


def _query(built: Any, kind: str, changes: list[tuple[Any, Any]]) -> Any:
    if kind == "exists":
        return built.query.exists()
    if kind == "update":
        query = built.query.chain(sql.UpdateQuery)
        if query.order_by or query.is_sliced:
            raise NotPrepared
        query.add_update_fields([(field, field.model, value) for field, value in changes])
        query.clear_select_clause()
        return query
    if kind == "delete":
        query = built.query.clone()
        query.clear_ordering(force=True)
        query.select_for_update = query.select_related = False
        query.__class__ = sql.DeleteQuery
        return query
    return _aggregation(built.query.chain(), dict(changes)) if kind == "aggregate" else built.query


class Compiling(Exception):
    """Django has built this query of an aggregation, and is about to compile it."""


def _aggregation(query: Any, aggregates: dict[str, Any]) -> Any:
    def stop(found: Any, *_args: Any, **_options: Any) -> None:
        raise Compiling(found)

    replaced: Any = sql.Query
    original, replaced.get_compiler = replaced.get_compiler, stop
    try:
        query.get_aggregation("default", aggregates)
    except Compiling as compiling:
        (found,) = compiling.args
        if not isinstance(found, sql.AggregateQuery):
            return found
    finally:
        replaced.get_compiler = original
    raise NotPrepared


def _check(statement: Statement, queryset: Any, kind: str, changes: list[tuple[Any, Any]], values: list[Any]) -> None:
    """Note if Django would build another SQL or other parameters."""
    query = _query(replay(queryset, queryset._calls), kind, _with_places(changes, len(values)))
    written = [value for _field, value in changes if _is_value(value)]
    built, params = query.get_compiler("default").as_sql()
    expected = [written[param.number - len(values)] if isinstance(param, Place) else _plain(param) for param in params]
    sql_used, params_used = statement.compiler.as_sql()
    if (built, [*map(_plain, expected)]) != (sql_used, [*map(_plain, params_used)]):
        differences.append(f"{built} {expected}\n{sql_used} {params_used}")


def _fetch_all(self: Any) -> None:
    if self._result_cache is None and "_calls" in self.__dict__ and (statement := _statement(self, "rows")):
        statement.queryset._known_related_objects = self._known_related_objects
        self._result_cache = list(statement.queryset._iterable_class(statement.queryset))
    elif "_calls" not in self.__dict__ or self._result_cache is None:
        originals["_fetch_all"](self)


def _first(self: Any) -> Any:
    if "_calls" not in self.__dict__:
        return originals["first"](self)
    return next(iter(recorded(self, "first", (), {})), None)


def _get(self: Any, *args: Any, **kwargs: Any) -> Any:
    if "_calls" not in self.__dict__ or any(call[0] == "__getitem__" for call in self._calls):
        return originals["get"](self, *args, **kwargs)
    found = list(recorded(self, "get", args, kwargs))
    if len(found) == 1:
        return found[0]
    if not found:
        raise self.model.DoesNotExist(f"{self.model._meta.object_name} matching query does not exist.")
    raise self.model.MultipleObjectsReturned(f"get() returned {len(found)} of {self.model._meta.object_name}.")


def _exists(self: Any) -> bool:
    if "_calls" in self.__dict__ and self._result_cache is None and (statement := _statement(self, "exists")):
        return bool(statement.compiler.has_results())
    return bool(originals["exists"](self))


def _update(self: Any, **kwargs: Any) -> Any:
    if "_calls" in self.__dict__:
        try:
            changes = [_change(self.model._meta.get_field(name), value) for name, value in kwargs.items()]
        except FieldDoesNotExist:
            changes = []
        if changes and (statement := _statement(self, "update", changes)):
            with transaction.mark_for_rollback_on_error(using="default"):
                return statement.compiler.execute_sql(ROW_COUNT)
    return originals["update"](self, **kwargs)


def _update_fields(self: Any, values: Any) -> Any:
    if "_calls" in self.__dict__:
        changes = [_change(field, value) for field, _model, value in values]
        if changes and (statement := _statement(self, "update", changes)):
            return statement.compiler.execute_sql(ROW_COUNT)
    return originals["_update"](self, values)


def _aggregate(self: Any, *args: Any, **kwargs: Any) -> Any:
    if "_calls" in self.__dict__ and not args and (statement := _statement(self, "aggregate", [*kwargs.items()])):
        found = statement.compiler.execute_sql(SINGLE)
        found = next(statement.compiler.apply_converters((found,), statement.compiler.get_converters(())))
        return dict(zip(kwargs, found, strict=True))
    return originals["aggregate"](self, *args, **kwargs)


def _count(self: Any) -> int:
    if "_calls" in self.__dict__ and self._result_cache is None:
        return int(self.aggregate(__count=Count("*"))["__count"])
    return int(originals["count"](self))


def _delete(self: Any) -> Any:
    can_delete_fast = "_calls" in self.__dict__ and Collector("default").can_fast_delete(self)
    if can_delete_fast and (statement := _statement(self, "delete")):
        with transaction.atomic(savepoint=False):
            count = statement.compiler.execute_sql(ROW_COUNT)
        return count, {self.model._meta.label: count} if count else {}
    return originals["delete"](self)


def _change(field: Any, value: Any) -> tuple[Any, Any]:
    """Return a field that is to be written, with an expression or with the value as it is in the database."""
    if hasattr(value, "resolve_expression"):
        return field, value
    if isinstance(value, models.Model):
        value = value.pk
    return field, field.get_db_prep_save(value, _connection)


def install() -> None:
    """Let querysets execute prepared statements. There is no way back."""
    global _connection  # noqa: PLW0603 - set once
    _connection = connections["default"]
    recorded_querysets.install()
    queryset: Any = QuerySet
    executing: dict[str, Any] = {
        "_fetch_all": _fetch_all,
        "first": _first,
        "get": _get,
        "exists": _exists,
        "update": _update,
        "_update": _update_fields,
        "aggregate": _aggregate,
        "count": _count,
        "delete": _delete,
    }
    for name, function in executing.items():
        originals[name] = getattr(queryset, name)
        wrapper: Any = wraps(originals[name])
        setattr(queryset, name, wrapper(function))
