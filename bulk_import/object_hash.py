"""The hash of an object's own columns. It tells later whether the object has changed since an import created it."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models.expressions import RawSQL

from bulk_import.models import database
from bulk_import.models.row import OBJECT_HASH_BYTES

if TYPE_CHECKING:
    from django.db.models import Model


def object_hash(model: type[Model], field: str, value: Any) -> bytes:
    """Return the hash of the object with this value of a unique field, as the database has it; b"" if there is none.

    The hash covers the columns of the object's own tables. Relations from other tables are not compared.
    """
    using = database()
    columns, sql, identity = _query(using, model, field)
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(sql, [identity.get_db_prep_value(identity.get_prep_value(value), connection)])
        stored = cursor.fetchone()
    if stored is None:
        return b""
    # psycopg returns bytes as a memoryview, whose `repr` is not its content.
    values = [bytes(value) if isinstance(value, memoryview) else value for value in stored]
    text = repr(list(zip(columns, values, strict=True)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:OBJECT_HASH_BYTES]


@cache
def _query(using: str, model: type[Model], field: str) -> tuple[list[str], str, Any]:
    """Return the columns of an object, the SQL that selects them, and the field that identifies the object.

    The SQL is kept, because every created row needs it, and building it takes ten times as long as running it.
    """
    columns = [column.attname for column in model._meta.concrete_fields]
    manager = model._base_manager.using(using)  # noqa: SLF001 - documented API
    query = manager.filter(**{field: RawSQL("%s", [None])}).order_by().values_list(*columns).query
    sql, _params = query.get_compiler(using).as_sql()
    condition: Any = query.where.children[0]
    return columns, sql, condition.lhs.output_field
