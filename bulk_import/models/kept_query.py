"""Queries that run for every upload and every call of a worker.

Their SQL is built once per process, because that takes several times as long as to run it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connections
from django.db.models import Expression
from django.db.transaction import TransactionManagementError

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


class KeptQuery(NamedTuple):
    """The SQL of a query for one database, and how to read what it returns."""

    sql: str
    parameters: tuple[Any, ...]
    converters: dict[int, Any]
    make: Callable[[list[Any]], Any]  # turns the converted columns of a row into an object or a tuple
    is_locking: bool


def kept_query(build: Callable[[], QuerySet[Any, Any]]) -> Callable[..., list[Any]]:
    """Return a function that runs the query, and returns its objects, or the rows of a `values_list`.

    It takes the value of each Parameter of the query by name. `build` is called once for each database.
    """

    @cache
    def built(using: str) -> KeptQuery:
        compiler: Any = build().query.get_compiler(using)
        sql, parameters = compiler.as_sql()
        converters = compiler.get_converters([column for column, *_name in compiler.select])
        return KeptQuery(sql, tuple(parameters), converters, _maker(compiler), compiler.query.select_for_update)

    def run(**values: Any) -> list[Any]:
        connection = connections[database()]
        query = built(connection.alias)
        if query.is_locking and connection.get_autocommit():
            raise TransactionManagementError("A lock needs a transaction.")
        with connection.cursor() as cursor:
            cursor.execute(
                query.sql,
                [
                    value.output_field.get_db_prep_value(values[value.name], connection)
                    if isinstance(value, Parameter)
                    else value
                    for value in query.parameters
                ],
            )
            rows = cursor.fetchall()
        return [query.make(convert_columns(row, query.converters, connection)) for row in rows]

    return run


def _maker(compiler: Any) -> Callable[[list[Any]], Any]:
    """Return a function that makes the object of a row, as the ORM does. It has no related objects."""
    if not compiler.query.default_cols:
        return tuple
    model, places = compiler.klass_info["model"], compiler.klass_info["select_fields"]
    names = [compiler.select[place][0].target.attname for place in places]

    def make(columns: list[Any]) -> Any:
        found = model.from_db(compiler.using, names, [columns[place] for place in places])
        for name, place in compiler.annotation_col_map.items():
            setattr(found, name, columns[place])
        return found

    return make


def convert_columns(columns: Any, converters: dict[int, Any], connection: Any) -> list[Any]:
    """Convert what the database has returned, as the ORM does. `converters` come from `SQLCompiler.get_converters`."""
    converted = list(columns)
    for position, (convert_all, column) in converters.items():
        for convert in convert_all:
            converted[position] = convert(converted[position], column, connection)
    return converted
