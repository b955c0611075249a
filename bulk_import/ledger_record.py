"""Fills the ledger record of a row after its view has answered: which object the row became, and how."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections

from bulk_import.existing_object import lookup_text, read_lookup
from bulk_import.models import database
from bulk_import.models.row import MAX_ID_CHARACTERS, MAX_LOOKUP_CHARACTERS
from bulk_import.object_hash import hash_query
from bulk_import_wire.contract import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.http import HttpRequest

    from bulk_import.conf import Target
    from bulk_import.detail_endpoint import DetailEndpoint
    from bulk_import.existing_object import ExistingObject
    from bulk_import.models import ImportedRow


def fill_record(
    record: ImportedRow,
    request: HttpRequest,
    response: Any,
    target: Target,
    existing: ExistingObject | None,
    *,
    is_rehearsal: bool,
    inserts: Collection[str] = (),
) -> None:
    """Save what identifies the object, and `updated` as the outcome if the object existed and the record has no other.

    The object that a rehearsal created does not exist any more, so its ID is not saved. The columns of any other
    created object are hashed, so that an undo can tell whether the object has changed since. `inserts` are the INSERT
    statements of the view. Without one for the table of the object, the object may have existed before, so it is not
    hashed, and an undo leaves it alone.
    """
    endpoint = target.detail_endpoint
    if existing:
        record.object_id, record.lookup = existing.object_id, existing.lookup
        if record.outcome == Outcome.CREATED:
            record.outcome = Outcome.UPDATED.value
    else:
        record.object_id = "" if is_rehearsal else _created_id(response, endpoint)
        record.lookup = _created_lookup(request, response, target)
    if len(record.object_id) > MAX_ID_CHARACTERS:
        record.object_id = ""  # the beginning of an ID may be the ID of another object
    created_hash = None
    if record.outcome == Outcome.CREATED and record.object_id and endpoint:
        created_hash = _created_hash(request, endpoint, record.object_id, inserts)
    record.complete(created_hash)


def _created_hash(
    request: HttpRequest, endpoint: DetailEndpoint, object_id: str, inserts: Collection[str]
) -> tuple[str, list[Any]] | None:
    """Return the query of the created object's hash; None if the view did not insert the object of its response."""
    queryset: Any = endpoint.view_class.queryset
    try:
        model = endpoint.view(request).get_queryset().model if queryset is None else queryset.model
        table = connections[database()].ops.quote_name(model._meta.db_table)
        if not any(table in statement for statement in inserts):
            return None
        return hash_query(model, endpoint.id_field, object_id)
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001 - the target's own code may raise anything, but the object has been created
        return None


def _created_id(response: Any, endpoint: DetailEndpoint | None) -> str:
    """Return what identifies the created object in its URL, from the view's response; "" if it is not in there.

    Without a detail endpoint, it is the "id" (or "pk") of the response. If the URL has another field, such as a SKU,
    the "id" is not used in its place: it may be the SKU of another object.
    """
    data = getattr(response, "data", None)
    if not isinstance(data, dict):
        return ""
    names = ("id", "pk") if endpoint is None or endpoint.id_field in {"id", "pk"} else (endpoint.id_field,)
    return next((str(data[name]) for name in names if name in data), "")


def _created_lookup(request: HttpRequest, response: Any, target: Target) -> str:
    """Return the value of the lookup field, as the view returned it or else as it was sent; "" if there is none."""
    if not target.lookup:
        return ""
    data = getattr(response, "data", None)
    if isinstance(data, dict) and target.lookup in data:
        value = data[target.lookup]
        return "" if value is None else str(value)[:MAX_LOOKUP_CHARACTERS]
    serializer: Any = target.serializer_class(context={"request": request})
    value = read_lookup(serializer, target, json.loads(request.body))
    return "" if value is None else lookup_text(serializer.fields[target.lookup], value)
