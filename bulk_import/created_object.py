"""Finds the object that a row of an undo is about, which an earlier import created, and decides if it may be deleted.

The row names the index of the row that created the object. The ledger record of that row has the object's ID and the
hash of its columns at that time. So an object that has changed since, or another one with a reused ID, is not deleted.
The lookup is not compared separately: it is a column, so the hash covers it.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.db.models import ProtectedError, RestrictedError
from django.utils.translation import gettext as _

from bulk_import.existing_object import ExistingObject, later_writes, lock_visible
from bulk_import.ledger import CreateCallError
from bulk_import.models import ImportedRow
from bulk_import.object_hash import object_hash
from bulk_import_wire.contract import Outcome, RowVerdict

if TYPE_CHECKING:
    from django.http import HttpRequest

    from bulk_import.conf import Target
    from bulk_import.ledger import CreateCall


def find_created_object(request: HttpRequest, call: CreateCall, target: Target) -> ExistingObject:
    """Lock and return the object of the row, and reroute the request to its detail view as a DELETE.

    Raises CreateCallError if the object does not exist for the submitter, has changed since it was created, or belongs
    to a later import too, which found that the object has the values of its row already.
    """
    endpoint = target.detail_endpoint
    if endpoint is None:  # it was removed while the job was running
        message = "The target has no detail_url any more."
        raise CreateCallError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, RowVerdict.NOT_CREATED)
    index = json.loads(request.body)["index"]
    record = ImportedRow.objects.filter(job__undos=call.job_id, index=index, outcome=Outcome.CREATED.value).first()
    request.method = "DELETE"
    view = endpoint.view(request)
    if record is None:  # the records of the import have expired since the undo was accepted
        message = _("We no longer know which objects this import created, so it cannot be undone.")
        raise _refused(HTTPStatus.GONE, "expired", message)
    found = lock_visible(view, {endpoint.id_field: record.object_id}, no_key=False)
    if not found:
        raise _refused(HTTPStatus.NOT_FOUND, "not_found", _("This object does not exist any more."))
    instance = found[0]
    if bytes(record.object_hash) != object_hash(type(instance), "pk", instance.pk):
        message = _("This object has changed since the import created it, so an undo does not delete it.")
        raise _refused(HTTPStatus.CONFLICT, "changed_since", message)
    existing = ExistingObject(endpoint, view, instance, record.lookup)
    writes = later_writes(record.job_id, target, existing)
    # A later import that was undone as well does not need the object any more.
    writes = writes.exclude(outcome=Outcome.UNCHANGED.value, job__undos__rehearsal=False)
    if later := writes.values_list("job_id", flat=True).first():
        message = _("The later import %(job)s contains this object too, so an undo does not delete it.")
        raise _refused(HTTPStatus.CONFLICT, "superseded", message % {"job": later})
    existing.reroute(request, "DELETE")
    return existing


def check_not_protected(errors: list[Exception]) -> None:
    """Raise CreateCallError if the view could not delete the object because others refer to it."""
    if errors and isinstance(errors[-1], ProtectedError | RestrictedError):
        raise _refused(HTTPStatus.CONFLICT, "protected", _("Other objects refer to this object."))


def _refused(status: int, code: str, message: str) -> CreateCallError:
    return CreateCallError(status, code, message, RowVerdict.REFUSED)
