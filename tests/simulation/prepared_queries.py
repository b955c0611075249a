"""Builds the SQL of each kind of query only once. The code of the project runs the same 200 kinds again and again.

A queryset records the calls that define it, instead of building a query. When it is executed, the recorded calls
without their values are the key of a prepared statement. Only the first execution of a kind builds the SQL, with
Django's own code: it replays the calls with a marker in place of each value, and finds in the parameters of the SQL
which value belongs where. Later executions fill in their values.

If anything else is done with a queryset, or if a marker cannot be found in the parameters, Django builds the query as
usual. With `check`, each execution compares its SQL and parameters with those that Django builds.
"""

from __future__ import annotations

import itertools
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models, transaction
from django.db.models import Count, Q, QuerySet, sql
from django.db.models.deletion import Collector
from django.db.models.expressions import Exists, Subquery
from django.db.models.query import MAX_GET_RESULTS
from django.db.models.sql.constants import ROW_COUNT, SINGLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILTERS = {"filter", "exclude"}
"""The calls whose arguments are values. The arguments of the others are names, and so a part of the key."""

RECORDED = (
    *("filter", "exclude", "annotate", "alias", "order_by", "distinct", "reverse", "values", "values_list", "using"),
    *("select_related", "select_for_update", "defer", "only"),
)
"""The calls that define a queryset."""

STATE = set(vars(QuerySet(models.Model, query=sql.Query(None))))
"""The attributes of a queryset."""

KEPT = {"_known_related_objects", "_hints", "_sticky_filter"}
"""The attributes that the managers of related objects set. They have no effect on the SQL."""

_originals: dict[str, Any] = {}
_statements: dict[Any, Statement | None] = {}
check = False
differences: list[str] = []


class NotPrepared(Exception):
    """The statement cannot be prepared, so Django builds it as usual."""


# --- recording


def _init(self: Any, model: Any = None, query: Any = None, using: Any = None, hints: Any = None) -> None:
    if query is not None or model is None:
        _originals["__init__"](self, model, query, using, hints)
        return
    self.__dict__ = {
        "model": model,
        "_calls": (),
        "_result_cache": None,
        "_db": using,
        "_for_write": False,
        "_hints": hints or {},
        "_known_related_objects": {},
        "_origin": (using, hints),
    }


def _recorded(self: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Return a queryset that records one more call."""
    recorded = object.__new__(type(self))
    recorded.__dict__ = {**self.__dict__, "_calls": (*self._calls, (name, args, kwargs)), "_result_cache": None}
    recorded.__dict__.pop("_defer_next_filter", None)
    return recorded


def _recording(name: str) -> Any:
    original = _originals[name]

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "_calls" in self.__dict__ and "_sticky_filter" not in self.__dict__:
            return _recorded(self, name, args, kwargs)
        return original(self, *args, **kwargs)

    return method


def _getattr(self: Any, name: str) -> Any:
    """Build the query of a queryset that has only recorded its calls, because something asks for its state."""
    if name not in STATE or "_calls" not in self.__dict__:
        raise AttributeError(name)
    built = _replay(self, self._calls)
    kept = {name: value for name, value in self.__dict__.items() if name in KEPT}
    self.__dict__ = {**built.__dict__, **kept, "_result_cache": self._result_cache}
    return self.__dict__[name]


def _replay(queryset: Any, calls: Any) -> Any:
    built = object.__new__(type(queryset))
    using, hints = queryset.__dict__["_origin"]
    _originals["__init__"](built, queryset.model, sql.Query(queryset.model), using, hints)
    for name, args, kwargs in calls:
        built = _first_row(built) if name == "first" else _originals[name](built, *args, **kwargs)
    return built


def _init_of_subquery(original: Any) -> Any:
    def init(self: Any, queryset: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(queryset, QuerySet) and "_calls" in queryset.__dict__:
            self._recorded = queryset, args, kwargs
        else:
            original(self, queryset, *args, **kwargs)

    return init


def _getattr_of_subquery(self: Any, name: str) -> Any:
    """Build a subquery that has only recorded its queryset, because something asks for its state."""
    if name not in {"query", "extra"} or "_recorded" not in self.__dict__:
        raise AttributeError(name)
    queryset, args, kwargs = self._recorded
    type(self).__init__(self, queryset.all().query, *args, **kwargs)
    return self.__dict__[name]


# --- the key of a statement, and its markers


def _shape(value: Any, values: list[Any], *, is_name: bool = False) -> Any:  # noqa: C901, PLR0911 - one case for each type
    """Return what the SQL depends on, and append the values that are parameters of it. A name is none."""
    kind = type(value)
    if kind in _MARKERS:
        # Django leaves out the comparison of a column that has no negative values with a negative one.
        if is_name or (kind is int and value < 0):
            return kind, value
        values.append(value)
        return kind
    if value is None or kind in _CONSTANTS or isinstance(value, Enum | type):
        return kind, value
    if kind is slice:
        return kind, value.start, value.stop
    if kind in _COLLECTIONS:
        return kind, *[_shape(item, values, is_name=is_name) for item in value]
    if kind is dict:
        return kind, *[(name, _shape(item, values, is_name=is_name)) for name, item in value.items()]
    if kind is Q:
        children = [
            (child[0], _shape(child[1], values, is_name=is_name))
            if type(child) is tuple
            else _shape(child, values, is_name=is_name)
            for child in value.children
        ]
        return kind, value.connector, value.negated, *children
    if isinstance(value, models.Model):
        return _shape(value.pk, values, is_name=is_name)
    if isinstance(value, QuerySet) and "_calls" in value.__dict__:
        return kind, value.model, *[_shape_of_call(call, values) for call in value._calls]  # type: ignore[attr-defined]
    if isinstance(value, Subquery) and "_recorded" in value.__dict__:
        queryset, args, kwargs = value.__dict__["_recorded"]
        return kind, _shape(queryset, values), _shape(args, values, is_name=True), _shape(kwargs, values, is_name=True)
    if hasattr(value, "_constructor_args"):
        args, kwargs = value._constructor_args
        return kind, _shape(args, values, is_name=True), _shape(kwargs, values, is_name=True)
    raise NotPrepared


def _shape_of_call(call: tuple[str, Any, Any], values: list[Any]) -> Any:
    name, args, kwargs = call
    is_name = name not in FILTERS
    return name, _shape(args, values, is_name=is_name), _shape(kwargs, values, is_name=is_name)


def _marked(value: Any, numbers: Iterator[int], *, is_name: bool = False) -> Any:  # noqa: PLR0911 - one case for each type
    """Return the same with a marker in place of each value that `_shape` appends, in the same order."""
    kind = type(value)
    if kind in _MARKERS:
        return value if is_name or (kind is int and value < 0) else _MARKERS[kind](next(numbers))
    if kind in _COLLECTIONS:
        items = [_marked(item, numbers, is_name=is_name) for item in value]
        return tuple(items) if kind is tuple else items
    if kind is dict:
        return {name: _marked(item, numbers, is_name=is_name) for name, item in value.items()}
    if kind is Q:
        children = [
            (child[0], _marked(child[1], numbers, is_name=is_name))
            if type(child) is tuple
            else _marked(child, numbers, is_name=is_name)
            for child in value.children
        ]
        return Q.create(children, value.connector, negated=value.negated)
    if isinstance(value, models.Model):
        return _marked(value.pk, numbers, is_name=is_name)
    if isinstance(value, QuerySet):
        return _replay(value, _marked_calls(value._calls, numbers))  # type: ignore[attr-defined]
    if isinstance(value, Subquery) and "_recorded" in value.__dict__:
        queryset, args, kwargs = value.__dict__["_recorded"]
        return kind(_marked(queryset, numbers), *args, **kwargs)
    if hasattr(value, "_constructor_args"):
        args, kwargs = value._constructor_args
        return kind(*_marked(args, numbers, is_name=True), **_marked(kwargs, numbers, is_name=True))
    return value


def _marked_calls(calls: Any, numbers: Iterator[int]) -> list[tuple[str, Any, Any]]:
    marked = []
    for name, args, kwargs in calls:
        is_name = name not in FILTERS
        marked.append((name, _marked(args, numbers, is_name=is_name), _marked(kwargs, numbers, is_name=is_name)))
    return marked


@dataclass(frozen=True)
class Place:
    """An expression in place of a value that an UPDATE writes. It is its own parameter."""

    number: int
    contains_aggregate = contains_over_clause = False

    def resolve_expression(self, *_args: Any, **_options: Any) -> Place:
        return self

    def as_sql(self, _compiler: Any, _connection: Any) -> tuple[str, list[Any]]:
        return "%s", [self]


_CONSTANTS = {bool, float, timedelta}
_COLLECTIONS = {tuple, list, set, frozenset}
_MARKERS: dict[type, Callable[[int], Any]] = {
    str: lambda number: f"marker {number}",
    int: lambda number: 1_000_000_000 + number,
    uuid.UUID: lambda number: uuid.UUID(int=2**100 + number),
    datetime: lambda number: datetime(2001, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    bytes: lambda number: b"marker %d" % number,
}


def _forms(marker: Any, connection: Any) -> dict[Any, Callable[[Any], Any]]:
    """Return how a marker may appear among the parameters of a statement, and the function that changes a value so."""
    if isinstance(marker, uuid.UUID):
        return {marker.hex: lambda value: value.hex, str(marker): str}
    if isinstance(marker, datetime):
        adapt = connection.ops.adapt_datetimefield_value
        return {adapt(marker): adapt}
    if isinstance(marker, bytes):
        return {marker: memoryview}
    if isinstance(marker, int):
        return {marker: lambda value: value, str(marker): str}
    return {marker: lambda value: value}


# --- statements


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
            for form, adapt in _forms(marker, connection).items()
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
        calls = tuple(_shape_of_call(call, values) for call in queryset._calls)
        count = len(values)
        written = []
        for field, value in changes:
            written.append((field, Place if _is_value(value) else _shape(value, values, is_name=True)))
        if len(values) > count:
            return None
        key = type(queryset), queryset.model, kind, calls, *written
        if key not in _statements:
            _statements[key] = None
            with suppress(Exception):  # Django raises it again when it builds the query
                _statements[key] = _prepare(queryset, kind, changes, values)
    except NotPrepared:
        return None
    if statement := _statements[key]:
        statement.bind(values + [value for _field, value in changes if _is_value(value)])
        if check:
            _check(statement, queryset, kind, changes, values)
    return statement


def _prepare(queryset: Any, kind: str, changes: list[tuple[Any, Any]], values: list[Any]) -> Statement:
    built = _replay(queryset, _marked_calls(queryset._calls, itertools.count()))
    marked = _with_places(changes, len(values))
    markers = [_MARKERS[type(value)](number) for number, value in enumerate(values)]
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
    query = _query(_replay(queryset, queryset._calls), kind, _with_places(changes, len(values)))
    written = [value for _field, value in changes if _is_value(value)]
    built, params = query.get_compiler("default").as_sql()
    expected = [written[param.number - len(values)] if isinstance(param, Place) else _plain(param) for param in params]
    sql_used, params_used = statement.compiler.as_sql()
    if (built, [*map(_plain, expected)]) != (sql_used, [*map(_plain, params_used)]):
        differences.append(f"{built} {expected}\n{sql_used} {params_used}")


# --- what executes a queryset


def _fetch_all(self: Any) -> None:
    if self._result_cache is None and "_calls" in self.__dict__ and (statement := _statement(self, "rows")):
        statement.queryset._known_related_objects = self._known_related_objects
        self._result_cache = list(statement.queryset._iterable_class(statement.queryset))
    elif "_calls" not in self.__dict__ or self._result_cache is None:
        _originals["_fetch_all"](self)


def _getitem(self: Any, place: Any) -> Any:
    if "_calls" in self.__dict__ and self._result_cache is None and isinstance(place, slice) and place.step is None:
        return _recorded(self, "__getitem__", (place,), {})
    return _originals["__getitem__"](self, place)


def _all(self: Any) -> Any:
    return _recorded(self, "all", (), {}) if "_calls" in self.__dict__ else _originals["all"](self)


def _first(self: Any) -> Any:
    if "_calls" not in self.__dict__:
        return _originals["first"](self)
    return next(iter(_recorded(self, "first", (), {})), None)


def _first_row(queryset: Any) -> Any:
    return (queryset if queryset.ordered else queryset.order_by("pk"))[:1]


def _get(self: Any, *args: Any, **kwargs: Any) -> Any:
    if "_calls" not in self.__dict__ or any(name == "__getitem__" for name, *_ in self._calls):
        return _originals["get"](self, *args, **kwargs)
    found = list(self.filter(*args, **kwargs).order_by()[:MAX_GET_RESULTS])
    if len(found) == 1:
        return found[0]
    if not found:
        raise self.model.DoesNotExist(f"{self.model._meta.object_name} matching query does not exist.")
    raise self.model.MultipleObjectsReturned(f"get() returned {len(found)} of {self.model._meta.object_name}.")


def _exists(self: Any) -> bool:
    if "_calls" in self.__dict__ and self._result_cache is None and (statement := _statement(self, "exists")):
        return bool(statement.compiler.has_results())
    return bool(_originals["exists"](self))


def _update(self: Any, **kwargs: Any) -> Any:
    if "_calls" in self.__dict__:
        try:
            changes = [_change(self.model._meta.get_field(name), value) for name, value in kwargs.items()]
        except FieldDoesNotExist:
            changes = []
        if changes and (statement := _statement(self, "update", changes)):
            with transaction.mark_for_rollback_on_error(using="default"):
                return statement.compiler.execute_sql(ROW_COUNT)
    return _originals["update"](self, **kwargs)


def _update_fields(self: Any, values: Any) -> Any:
    if "_calls" in self.__dict__:
        changes = [_change(field, value) for field, _model, value in values]
        if changes and (statement := _statement(self, "update", changes)):
            return statement.compiler.execute_sql(ROW_COUNT)
    return _originals["_update"](self, values)


def _aggregate(self: Any, *args: Any, **kwargs: Any) -> Any:
    if "_calls" in self.__dict__ and not args and (statement := _statement(self, "aggregate", [*kwargs.items()])):
        found = statement.compiler.execute_sql(SINGLE)
        found = next(statement.compiler.apply_converters((found,), statement.compiler.get_converters(())))
        return dict(zip(kwargs, found, strict=True))
    return _originals["aggregate"](self, *args, **kwargs)


def _count(self: Any) -> int:
    if "_calls" in self.__dict__ and self._result_cache is None:
        return int(self.aggregate(__count=Count("*"))["__count"])
    return int(_originals["count"](self))


def _delete(self: Any) -> Any:
    can_delete_fast = "_calls" in self.__dict__ and Collector("default").can_fast_delete(self)
    if can_delete_fast and (statement := _statement(self, "delete")):
        with transaction.atomic(savepoint=False):
            count = statement.compiler.execute_sql(ROW_COUNT)
        return count, {self.model._meta.label: count} if count else {}
    return _originals["delete"](self)


def _change(field: Any, value: Any) -> tuple[Any, Any]:
    """Return a field that is to be written, with an expression or with the value as it is in the database."""
    if hasattr(value, "resolve_expression"):
        return field, value
    if isinstance(value, models.Model):
        value = value.pk
    return field, field.get_db_prep_save(value, connections["default"])


def install() -> None:
    """Replace the methods of querysets and subqueries. There is no way back."""
    queryset: Any = QuerySet
    executing = {
        "_fetch_all": _fetch_all,
        "__getitem__": _getitem,
        "all": _all,
        "first": _first,
        "get": _get,
        "exists": _exists,
        "update": _update,
        "_update": _update_fields,
        "__init__": _init,
        "aggregate": _aggregate,
        "count": _count,
        "delete": _delete,
    }
    _originals.update({name: getattr(queryset, name) for name in (*RECORDED, *executing)})
    for name in RECORDED:
        setattr(queryset, name, _recording(name))
    for name, function in executing.items():
        setattr(queryset, name, wraps(_originals[name])(function))
    queryset.__getattr__ = _getattr
    for subquery in (Subquery, Exists):
        replaced: Any = subquery
        replaced.__init__ = _init_of_subquery(replaced.__init__)
    replaced = Subquery
    replaced.__getattr__ = _getattr_of_subquery
