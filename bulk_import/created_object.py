"""Finds the object that a row of an undo is about, which an earlier import created, and decides if it may be deleted.

The row names the index of the row that created the object. The ledger record of that row has the object's ID and the
hash of its columns at that time. So an object that has changed since, or another one with a reused ID, is not deleted.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException

from bulk_import.existing_object import ExistingObject
from bulk_import.ledger import CreateCallError
from bulk_import.models import ImportedRow, database
from bulk_import.object_hash import object_hash
from bulk_import_wire.contract import Outcome, RowVerdict

if TYPE_CHECKING:
    from django.http import HttpRequest

    from bulk_import.conf import Target
    from bulk_import.ledger import CreateCall


def find_created_object(request: HttpRequest, call: CreateCall, target: Target) -> ExistingObject:
    """Lock and return the object of the row, and reroute the request to its detail view as a DELETE.

    Raises CreateCallError if the object does not exist for the submitter, or has changed since it was created.
    """
    endpoint = target.detail_endpoint
    if endpoint is None:  # it was removed while the job was running
        message = "The target has no detail_url any more."
        raise CreateCallError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, RowVerdict.NOT_CREATED)
    index = json.loads(request.body)["index"]
    record = ImportedRow.objects.filter(job__undos=call.job_id, index=index, outcome=Outcome.CREATED.value).first()
    request.method = "DELETE"
    view = endpoint.view(request)
    instance = _lock(view, {endpoint.id_field: record.object_id}) if record else None
    if record is None or instance is None:
        raise _refused(HTTPStatus.NOT_FOUND, "not_found", _("This object does not exist any more."))
    if bytes(record.object_hash) != object_hash(type(instance), pk=instance.pk):
        message = _("This object has changed since the import created it, so it was not deleted.")
        raise _refused(HTTPStatus.CONFLICT, "changed_since", message)
    existing = ExistingObject(endpoint, view, instance, record.lookup)
    endpoint.reroute(request, "DELETE", existing.object_id)
    view.kwargs[endpoint.url_kwarg] = existing.object_id
    return existing


def check_not_protected(errors: list[Exception]) -> None:
    """Raise CreateCallError if the view could not delete the object because others refer to it."""
    if errors and isinstance(errors[-1], ProtectedError | RestrictedError):
        raise _refused(HTTPStatus.CONFLICT, "protected", _("Other objects refer to this object."))


def _lock(view: Any, identity: dict[str, Any]) -> Any:
    """Lock and return the object with this identity; None if the view does not show it to the submitter."""
    try:
        visible = view.get_queryset().using(database()).filter(**identity).order_by()
    except (APIException, PermissionDenied, Http404):
        return None
    # The view's queryset may have joins or DISTINCT, which cannot be locked. So lock the row of the table itself.
    manager = visible.model._base_manager.using(database())  # noqa: SLF001 - documented API
    return manager.select_for_update(of=("self",)).filter(pk__in=visible.values("pk")).first()


def _refused(status: int, code: str, message: str) -> CreateCallError:
    return CreateCallError(status, code, message, RowVerdict.REFUSED)
