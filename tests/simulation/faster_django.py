"""Makes Django faster in a process that simulates, without changing what it does.

Most of a run's time is spent on building SQL. The functions below replace slow ways of Django to do something simple,
or remember results that never change. Nothing of this project is replaced.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, reset_queries
from django.db.models import Model, expressions
from django.db.models.base import ModelState
from django.db.models.expressions import BaseExpression, Col
from django.db.models.sql.compiler import SQLCompiler, SQLInsertCompiler
from django.utils.translation import trans_real
from rest_framework.fields import DictField, Field, ListField
from rest_framework.relations import ManyRelatedField
from rest_framework.serializers import BaseSerializer, ModelSerializer, Serializer
from rest_framework.utils import model_meta

_sql_of_columns: dict[tuple[str | None, str], tuple[str, type]] = {}
_original_column_as_sql: Any = Col.as_sql
_sql_of_inserts: dict[Any, str] = {}
_original_insert_as_sql: Any = SQLInsertCompiler.as_sql
_converters_of_fields: dict[Any, list[Any]] = {}
_original_copy_of_field: Any = Field.__deepcopy__
_original_get_model_fields: Any = ModelSerializer.get_fields


def install() -> None:
    """Replace the slow functions. There is no way back."""
    # A connection belongs to a thread or task, and here is only one thread, in which each request runs to its end.
    found = connections["default"]
    connections._connections = SimpleNamespace(default=found)  # type: ignore[attr-defined]
    trans_real._active = SimpleNamespace()  # type: ignore[attr-defined]
    for signal in (request_started, request_finished):  # the connection stays open, and no queries are kept
        signal.disconnect(close_old_connections)
        signal.disconnect(reset_queries)
    request_finished.disconnect(close_caches)  # a cache in memory needs no closing
    replaced: Any = BaseExpression, Col, SQLCompiler, SQLInsertCompiler, Model
    expression, column, compiler, insert_compiler, model = replaced
    model.from_db = classmethod(_from_db)
    expression.copy = _copy
    column.identity = property(_identity)
    column.as_sql = _column_as_sql
    insert_compiler.as_sql = _insert_as_sql
    compiler.get_converters = _get_converters
    compiler.has_composite_fields = lambda _self, _fields: False  # `_get_converters` refuses them
    fields: Any = Field, (BaseSerializer, ListField, DictField, ManyRelatedField)
    for field in fields[1]:
        field.__deepcopy__ = _original_copy_of_field
    fields[0].__deepcopy__ = _copy_of_field
    serializers: Any = Serializer, ModelSerializer
    serializers[0].get_fields, serializers[1].get_fields = _get_fields, _get_model_fields
    model_meta.get_field_info = _get_field_info


def _copy(self: Any) -> Any:
    """Return a shallow copy, as `copy.copy` does after it has found out how."""
    copied = object.__new__(type(self))
    copied.__dict__.update(self.__getstate__())
    return copied


def _copy_of_field(self: Any, memo: Any) -> Any:
    """Return a copy of a field. DRF creates it anew, which is necessary only if it is bound, as the child of a list."""
    if self.parent is not None:
        return _original_copy_of_field(self, memo)
    copied = object.__new__(type(self))
    copied.__dict__.update(self.__dict__)
    if "_validators" in copied.__dict__:
        copied._validators = [*copied._validators]
    return copied


def _get_field_info(model: Any) -> Any:
    """Return what DRF knows about the fields of a model, or of the model of an object."""
    return _field_info_of_model(model if isinstance(model, type) else type(model))


_field_info_of_model = cache(model_meta.get_field_info)


def _get_fields(self: Any) -> dict[str, Any]:
    """Return copies of the declared fields. Django keeps a memo while it copies them, which they do not need."""
    return {name: field.__deepcopy__({}) for name, field in self._declared_fields.items()}


def _get_model_fields(self: Any) -> dict[str, Any]:
    """Return copies of the fields. DRF makes them anew from those of the model."""
    serializer_class: Any = type(self)
    return {name: field.__deepcopy__({}) for name, field in _fields_of_serializer(serializer_class).items()}


@cache
def _fields_of_serializer(serializer_class: Any) -> Any:
    return _original_get_model_fields(serializer_class())


def _from_db(cls: Any, db: str, names: Any, values: Any) -> Any:
    """Return an object with the values of a row. No model here has an `__init__` of its own, or a receiver of it."""
    found = cls.__new__(cls)
    found._state = ModelState()
    found._state.adding, found._state.db = False, db
    found.__dict__.update(zip(names, values, strict=True))
    return found


def _identity(self: Any) -> tuple[Any, ...]:
    """Return what makes two columns equal. Django looks at the signature of `__init__` for each one."""
    return Col, self.alias, self.target, self.output_field


def _column_as_sql(self: Any, compiler: Any, connection: Any) -> tuple[str, Any]:
    """Return the quoted name of a column. Django looks up in each query which names it need not quote."""
    key = (self.alias, self.target.column)
    if (known := _sql_of_columns.get(key)) is None:
        _sql, none = _original_column_as_sql(self, compiler, connection)  # a list or tuple, depending on the version
        known = _sql_of_columns[key] = ".".join(f'"{name}"' for name in key if name), type(none)
    sql, empty = known
    return sql, empty()


def _insert_as_sql(self: Any) -> Any:
    """Return the SQL of an INSERT and its values.

    The SQL for one object without expressions depends only on its model, its fields and the fields that it returns.
    """
    query, connection = self.query, self.connection
    if len(query.objs) > 1 or query.on_conflict or query.raw:
        return _original_insert_as_sql(self)
    values = [field.pre_save(query.objs[0], add=True) for field in query.fields]
    if any(hasattr(value, "resolve_expression") for value in values):
        return _original_insert_as_sql(self)
    key = query.model, tuple(query.fields), tuple(self.returning_fields or ())
    if key not in _sql_of_inserts:
        ((_sql_of_inserts[key], _values),) = _original_insert_as_sql(self)
    pairs = zip(query.fields, values, strict=True)
    return [(_sql_of_inserts[key], tuple([field.get_db_prep_save(value, connection) for field, value in pairs]))]


def _get_converters(self: Any, found: list[Any]) -> dict[int, Any]:
    """Return the functions that convert the values of a row, by position. Those of a column depend on its field."""
    converters = {}
    for place, expression in enumerate(found):
        if type(expression) is Col and expression.target is expression.output_field:
            functions = _converters_of_fields.get(expression.target)
            if functions is None:
                functions = _converters_of_fields[expression.target] = _converters_of(self, expression)
        elif isinstance(expression, expressions.ColPairs):
            raise NotImplementedError
        else:
            functions = _converters_of(self, expression) if expression else []
        if functions:
            converters[place] = (functions, expression)
    return converters


def _converters_of(compiler: Any, expression: Any) -> list[Any]:
    connection = compiler.connection
    functions: list[Any] = connection.ops.get_db_converters(expression) + expression.get_db_converters(connection)
    return functions
