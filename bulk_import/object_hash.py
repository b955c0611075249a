"""The hash of an object's own columns. It tells later whether the object has changed since an import created it.

The database computes the hash, so that the ledger can store it with the same statement that completes the record.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import BinaryField, F, Func, QuerySet, TextField
from django.db.models.expressions import RawSQL

from bulk_import.models import database
from bulk_import.models.row import OBJECT_HASH_BYTES

if TYPE_CHECKING:
    from django.db.models import Model


MAX_INTEGER_BITS = 63
"""Size of the largest integer that a database can have as an ID. SQLite refuses larger ones with an error."""


class ObjectHash(Func):
    """SQL: the first OBJECT_HASH_BYTES of a hash of these values. SQLite returns them in hexadecimal digits."""

    output_field = BinaryField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = f"substring(sha256(convert_to(ROW(%(expressions)s)::text, 'UTF8')), 1, {OBJECT_HASH_BYTES})"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # `quote` tells NULL, texts and numbers apart. It cuts texts at a NUL character, so they become blobs first.
        # SHA256 is a function that Django adds to SQLite.
        whole = "CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) ELSE {0} END".format("%(expressions)s")
        text = TextField()  # otherwise, Django makes a number of what `quote` returns for a decimal column
        columns = [Func(column, template=f"quote({whole})", output_field=text) for column in self.source_expressions]
        template = f"CAST(substr(SHA256(%(expressions)s), 1, {2 * OBJECT_HASH_BYTES}) AS BLOB)"
        return Func(*columns).as_sql(compiler, connection, template=template, arg_joiner=" || ',' || ", **context)


def object_hash(model: type[Model], field: str, value: Any) -> bytes:
    """Return the hash of the object with this value of a unique field, or b"" if the database has no such object."""
    with connections[database()].cursor() as cursor:
        cursor.execute(*hash_query(model, field, value))
        stored = cursor.fetchone()
    return bytes(stored[0]) if stored else b""  # psycopg returns a memoryview


def hash_query(model: type[Model], field: str, value: Any) -> tuple[str, list[Any]]:
    """Return the SQL, with its parameters, that selects the hash of the object with this value of a unique field.

    The hash covers the columns of the object's own tables. Relations from other tables are not compared. The field may
    also be unique only for each tenant. Then the SQL selects the hash of the newest object with this value.

    Raises an exception if no object can have this value, which depends on the field.
    """
    using = database()
    sql, identity = _query(using, model, field)
    prepared = identity.get_db_prep_value(identity.get_prep_value(value), connections[using])
    if isinstance(prepared, int) and prepared.bit_length() > MAX_INTEGER_BITS:
        raise OverflowError(f"{field} is too large.")
    return sql, [prepared]


@cache
def _query(using: str, model: type[Model], field: str) -> tuple[str, Any]:
    """Return the SQL that selects the hash of an object, and the field that identifies the object.

    The SQL is kept, because every created row needs it, and building it takes ten times as long as running it.
    """
    columns = [F(column.attname) for column in model._meta.concrete_fields]
    # No manager of the model is used, because it may hide objects.
    found: QuerySet[Any] = QuerySet(model, using=using).filter(**{field: RawSQL("%s", [None])})
    query = found.order_by("-pk").values_list(ObjectHash(*columns))[:1].query
    sql, _params = query.get_compiler(using).as_sql()
    condition: Any = query.where.children[0]
    return sql, condition.lhs.output_field
