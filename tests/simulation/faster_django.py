"""Makes Django faster in a process that simulates, without changing what it does.

Most of a run's time is spent on building SQL. The functions below replace slow ways of Django to do something simple,
or remember results that never change. Nothing of this project is replaced.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from django.db import connections
from django.db.models import expressions
from django.db.models.expressions import BaseExpression, Col
from django.db.models.sql.compiler import SQLCompiler
from rest_framework.fields import DictField, Field, ListField
from rest_framework.relations import ManyRelatedField
from rest_framework.serializers import BaseSerializer

_sql_of_columns: dict[tuple[str | None, str], tuple[str, type]] = {}
_original_column_as_sql: Any = Col.as_sql
_converters_of_fields: dict[Any, list[Any]] = {}
_original_copy_of_field: Any = Field.__deepcopy__


def install() -> None:
    """Replace the slow functions. There is no way back."""
    # A connection belongs to a thread or task, and here is only one thread, in which each request runs to its end.
    found = connections["default"]
    connections._connections = SimpleNamespace(default=found)  # type: ignore[attr-defined]
    replaced: Any = BaseExpression, Col, SQLCompiler
    expression, column, compiler = replaced
    expression.copy = _copy
    column.identity = property(_identity)
    column.as_sql = _column_as_sql
    compiler.get_converters = _get_converters
    fields: Any = Field, (BaseSerializer, ListField, DictField, ManyRelatedField)
    for field in fields[1]:
        field.__deepcopy__ = _original_copy_of_field
    fields[0].__deepcopy__ = _copy_of_field


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
