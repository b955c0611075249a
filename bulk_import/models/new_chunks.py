"""Inserts the chunks of a new job. An upload has up to hundreds of them, so the SQL is kept, as in `row`."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections

from bulk_import.batching import in_batches
from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import database

if TYPE_CHECKING:
    from collections.abc import Iterable

OWN_COLUMNS = (
    "id",
    "job",
    "number",
    "first_index",
    "row_count",
    "first_byte",
    "byte_count",
    "row_hashes",
    "row_lines",
)
"""The columns that differ between new chunks. The others have their defaults."""

MAX_CHUNKS = 100
"""Chunks in one statement. Django's limit for SQLite, 999 values in one statement, allows a few more."""


def insert_chunks(chunks: Iterable[ImportChunk]) -> None:
    """Insert new chunks, of which nothing but OWN_COLUMNS is stored. Django's signals of models are not sent."""
    using = database()
    connection = connections[using]
    fields, beginning, places = _insert_statement(using)
    for some in in_batches(chunks, MAX_CHUNKS):
        values = [
            field.get_db_prep_save(getattr(chunk, field.attname), connection) for chunk in some for field in fields
        ]
        with connection.cursor() as cursor:
            cursor.execute(beginning + ", ".join([places] * len(some)), values)


@cache
def _insert_statement(using: str) -> tuple[list[Any], str, str]:
    """Return the fields of OWN_COLUMNS, the SQL before the values of the first chunk, and the SQL of one chunk."""
    quote = connections[using].ops.quote_name
    own: list[Any] = [ImportChunk._meta.get_field(name) for name in OWN_COLUMNS]
    others = [field for field in ImportChunk._meta.concrete_fields if field not in own]
    columns = ", ".join(quote(str(field.column)) for field in [*own, *others])
    values = ", ".join([*["%s"] * len(own), *(_literal(field.get_default()) for field in others)])
    table = quote(ImportChunk._meta.db_table)
    return own, f"INSERT INTO {table} ({columns}) VALUES ", f"({values})"  # noqa: S608 - our own names


def _literal(default: Any) -> str:
    """Return the default of a column, which is None, a number, a text without quotation marks, or empty JSON."""
    if default is None:
        return "NULL"
    if isinstance(default, int):
        return str(default)
    return f"'{default if isinstance(default, str) else json.dumps(default)}'"
