"""Queries that run for every upload. Their SQL is built once per process, because that takes longer than to run it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import Expression

from bulk_import.models.database import database

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Field, QuerySet


class Parameter(Expression):
    """A value that differs from call to call. It stands for a value of this field of a model."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:  # noqa: ARG002 - Django's signature
        return "%s", (self,)


def kept_query(build: Callable[[], QuerySet[Any, Any]]) -> Callable[..., list[tuple[Any, ...]]]:
    """Return a function that runs the query of a `values_list`, and returns its rows.

    It takes the value of each Parameter of the query by name. `build` is called once for each database.
    """

    @cache
    def built(using: str) -> tuple[str, tuple[Any, ...], dict[int, Any]]:
        compiler: Any = build().query.get_compiler(using)
        sql, parameters = compiler.as_sql()
        return sql, tuple(parameters), compiler.get_converters([column for column, *_name in compiler.select])

    def run(**values: Any) -> list[tuple[Any, ...]]:
        connection = connections[database()]
        sql, parameters, converters = built(connection.alias)
        with connection.cursor() as cursor:
            cursor.execute(
                sql,
                [
                    value.output_field.get_db_prep_value(values[value.name], connection)
                    if isinstance(value, Parameter)
                    else value
                    for value in parameters
                ],
            )
            rows = cursor.fetchall()
        return [tuple(convert_columns(row, converters, connection)) for row in rows]

    return run


def convert_columns(columns: Any, converters: dict[int, Any], connection: Any) -> list[Any]:
    """Convert what the database has returned, as the ORM does. `converters` come from `SQLCompiler.get_converters`."""
    converted = list(columns)
    for position, (convert_all, column) in converters.items():
        for convert in convert_all:
            converted[position] = convert(converted[position], column, connection)
    return converted
