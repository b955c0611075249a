"""The hash of an object's own columns. It tells later whether the object has changed since an import created it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from bulk_import.models import database
from bulk_import.models.row import OBJECT_HASH_BYTES

if TYPE_CHECKING:
    from django.db.models import Model


def object_hash(model: type[Model], **identity: Any) -> bytes:
    """Return the hash of the object with this identity, as the database has it now; b"" if there is none.

    The hash covers the columns of the object's own tables. Relations from other tables are not compared.
    """
    options = model._meta
    columns = [field.attname for field in options.concrete_fields]
    manager = model._base_manager.using(database())  # noqa: SLF001 - documented API
    stored = manager.filter(**identity).values_list(*columns).first()
    if stored is None:
        return b""
    # psycopg returns bytes as a memoryview, whose `repr` is not its content.
    values = [bytes(value) if isinstance(value, memoryview) else value for value in stored]
    text = repr(list(zip(columns, values, strict=True)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:OBJECT_HASH_BYTES]
