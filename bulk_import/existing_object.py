"""Finds the object that a row of an update or upsert is about, and decides what the row does to it.

The object is looked up by the target's `lookup` field, in the queryset of the detail view for the submitter. So a row
reaches only the objects that the submitter can reach through that view. The object stays locked until the transaction
ends: of two rows for the same object, the second one sees everything that the first one wrote.
"""

from __future__ import annotations

import datetime as dt
import logging
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Model, Q, Subquery
from django.http import Http404
from django.urls import NoReverseMatch
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException
from rest_framework.serializers import ModelSerializer

from bulk_import.ledger import CreateCallError
from bulk_import.models import ImportedRow, ImportJob, JobMode, database
from bulk_import.models.row import MAX_LOOKUP_CHARACTERS
from bulk_import_wire.contract import Outcome, RowVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from bulk_import.conf import Target
    from bulk_import.detail_endpoint import DetailEndpoint
    from bulk_import.ledger import CreateCall

logger = logging.getLogger(__name__)

PLAIN_TYPES = frozenset(
    {
        type(None),
        bool,
        int,
        str,
        Decimal,
        UUID,
        dt.date,
        dt.datetime,
        dt.time,
        dt.timedelta,
    }
)
"""The types whose values are certainly the same if Python says that they are equal.

`float` is not one of them, because the database may round it. Neither is `dict`, where 1 equals True.
"""

WRITES = [Outcome.CREATED.value, Outcome.UPDATED.value, Outcome.UNCHANGED.value]
"""The outcomes after which an object has the values of the row."""


@dataclass(frozen=True, slots=True)
class ExistingObject:
    """The locked object of a row, and the detail view that changes it, with the row's call as its request."""

    endpoint: DetailEndpoint
    view: Any
    instance: Any
    lookup: str  # the object's value of the lookup field, as the ledger stores it

    @property
    def object_id(self) -> str:
        """What identifies the object in its URL."""
        return self.endpoint.object_id(self.instance)

    def reroute(self, request: HttpRequest, method: str) -> None:
        """Change the request to one for the object. Raises CreateCallError if the object has no URL."""
        try:
            self.endpoint.reroute(request, method, self.object_id)
        except NoReverseMatch as error:
            message = _("This object has no URL, so it can be neither changed nor deleted.")
            raise CreateCallError(HTTPStatus.CONFLICT, "no_url", message, RowVerdict.REFUSED) from error
        self.view.kwargs[self.endpoint.url_kwarg] = self.object_id

    def is_unchanged(self) -> bool:
        """Return whether a PATCH with this row would certainly change nothing.

        The submitter must have the permission to change the object. Every value of the row must belong to a column of
        the object, and equal the stored one. In any other case, also if the check itself fails, the detail view has to
        decide.
        """
        if not self.endpoint.has_plain_update:
            return False
        request = self.view.request
        try:
            self.view.check_permissions(request)
            self.view.check_object_permissions(request, self.instance)
            serializer = self.view.get_serializer(self.instance, data=request.data, partial=True)
            if not (is_plain(type(serializer)) and serializer.is_valid()):
                return False
        except Exception:  # noqa: BLE001 - the target's own code may raise anything; the view then raises it again
            return False
        fields = {field.name: field for field in self.instance._meta.concrete_fields}
        return all(
            name in fields and _is_same(fields[name], value, getattr(self.instance, fields[name].attname))
            for name, value in serializer.validated_data.items()
        )


def find_object(request: HttpRequest, call: CreateCall, target: Target, mode: str) -> ExistingObject | None:
    """Lock and return the object that the row is about; None if an upsert has to create it.

    If there is an object, the request is rerouted to its detail view, as a PATCH, unless the object stays as it is.
    Raises CreateCallError if the row must not be carried out: an update finds no object, an object exists that must
    not, several objects match, or a later job has written the object.
    """
    endpoint = _endpoint(target)
    request.method = "PATCH"
    view = endpoint.view(request)
    try:
        serializer = target.serializer_class(context=view.get_serializer_context())
        value = read_lookup(serializer, target, view.request.data)
        field = serializer.fields[target.lookup]
        found = _lock(view, str(field.source), value) if value is not None else []
    except Exception as error:
        # Without a verdict, the worker would take this for an endpoint that does not work, and pause the job.
        logger.exception("The object of a row cannot be looked up")
        message = _("We cannot look up the object of this row.")
        raise _refused(
            HTTPStatus.INTERNAL_SERVER_ERROR, message, target, code="error", verdict=RowVerdict.NOT_CREATED
        ) from error
    if len(found) > 1:
        message = _("Several objects have this %(field)s, so we do not know which one to change.")
        raise _refused(HTTPStatus.CONFLICT, message, target, code="not_unique")
    if found and mode == JobMode.STOP:
        message = _("There is already an object with this %(field)s.")
        raise _refused(HTTPStatus.CONFLICT, message, target, code="exists")
    if not found:
        if mode == JobMode.UPDATE:
            message = _("There is no object with this %(field)s.")
            raise _refused(HTTPStatus.NOT_FOUND, message, target, code="not_found")
        request.method = "POST"
        return None
    existing = ExistingObject(endpoint, view, found[0], lookup_text(field, value))
    if mode != JobMode.SKIP:
        _check_not_superseded(call, target, existing)
        existing.reroute(request, "PATCH")
    return existing


def _endpoint(target: Target) -> DetailEndpoint:
    endpoint = target.detail_endpoint
    if endpoint is None or not target.lookup:  # they were removed while the job was running
        message = "The target has no detail_url or no lookup any more."
        raise CreateCallError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, RowVerdict.NOT_CREATED)
    return endpoint


def read_lookup(serializer: Any, target: Target, data: Any) -> Any:
    """Return the row's value of the lookup field as the serializer stores it; None if the row has no valid one."""
    raw = data.get(target.lookup) if isinstance(data, dict) else None
    try:
        value = None if raw is None else serializer.fields[target.lookup].to_internal_value(raw)
    except APIException:  # an invalid value, which no object has
        return None
    validate = getattr(serializer, f"validate_{target.lookup}", None)
    if value is not None and validate:
        with suppress(APIException, DjangoValidationError):  # for example, because the value exists
            value = validate(value)  # may normalize it, for example to upper case
    return value


def lookup_text(field: Any, value: Any) -> str:
    """Return the value of the lookup field as the ledger stores it, which is also how a response shows it."""
    return str(field.to_representation(value))[:MAX_LOOKUP_CHARACTERS]


def _lock(view: Any, source: str, value: Any) -> list[Any]:
    """Lock and return the objects with this value, at most two."""
    # While this waited for the lock, another transaction may have given the object another value.
    locked = lock_visible(view, {source: value}, no_key=True)
    return [instance for instance in locked if getattr(instance, source) == value]


def lock_visible(view: Any, identity: dict[str, Any], *, no_key: bool) -> list[Any]:
    """Lock and return the objects with these values that the view shows to the submitter, at most two.

    With `no_key`, the lock is for a change and not for a deletion, so others may refer to the object meanwhile.
    """
    try:
        visible = view.get_queryset().using(database()).filter(**identity).order_by()
    except (APIException, PermissionDenied, Http404):  # the view shows the submitter no object
        return []
    # The view's queryset may have joins or DISTINCT, which cannot be locked. So lock the rows of the table itself. With
    # multi-table inheritance, some columns of the object are in a row of each parent table, which is locked as well.
    manager = visible.model._base_manager.using(database())  # noqa: SLF001 - documented API
    of = ("self", *parent_links(visible.model))
    return list(manager.select_for_update(no_key=no_key, of=of).filter(pk__in=visible.values("pk"))[:2])


def parent_links(model: type[Any]) -> Iterator[str]:
    """Yield the path of the link to each parent table, as `select_for_update` expects it: `place_ptr`."""
    for parent, link in model._meta.concrete_model._meta.parents.items():
        if link and link.model is model._meta.concrete_model:
            yield link.name
            yield from (f"{link.name}__{path}" for path in parent_links(parent))


def later_writes(job_id: UUID, target: Target, existing: ExistingObject) -> QuerySet[ImportedRow]:
    """Return the records of later jobs that wrote the object; none if its lookup is empty.

    "Later" means that they were accepted after the job `job_id`. Another tenant may have an object with the same
    lookup, so the ID counts as well, unless the ledger does not have it for certain. If each tenant has tables of its
    own, IDs repeat too, so the host of the upload counts.
    """
    job = ImportJob.objects.filter(pk=job_id)
    accepted_at = Subquery(job.values("created_at")[:1])
    is_later = Q(job__created_at__gt=accepted_at) | Q(job__created_at=accepted_at, job_id__gt=job_id)
    ids = {"", existing.object_id, existing.object_id.replace("-", "")}  # a response may show a UUID without hyphens
    is_same = Q(object_id__in=ids) | Q(outcome=Outcome.CREATED.value, object_hash=b"")
    writes: QuerySet[ImportedRow] = ImportedRow.objects.filter(
        is_later, is_same, lookup=existing.lookup, job__target=target.name, job__rehearsal=False, outcome__in=WRITES
    )
    if hasattr(settings, "TENANT_APPS"):
        writes = writes.filter(job__host=Subquery(job.values("host")[:1]))
    # A job that skips what exists has written nothing to an object that it found.
    writes = writes.exclude(job__mode=JobMode.SKIP, outcome=Outcome.UNCHANGED.value)
    return writes.exclude(lookup="")  # this condition lets the database use the partial index


def _check_not_superseded(call: CreateCall, target: Target, existing: ExistingObject) -> None:
    """Raise CreateCallError if a job that was accepted later has written the object."""
    if later := later_writes(call.job_id, target, existing).values_list("job_id", flat=True).first():
        message = _("The later import %(job)s has already written this object.") % {"job": later}
        raise _refused(HTTPStatus.CONFLICT, message, target, code="superseded")


def _refused(
    status: int, message: str, target: Target, *, code: str, verdict: RowVerdict = RowVerdict.REFUSED
) -> CreateCallError:
    """Return the error for a row that is rejected. `message` may have the placeholder `%(field)s`."""
    return CreateCallError(status, code, message % {"field": target.lookup}, verdict, field=target.lookup)


def is_plain(serializer_class: type[Any]) -> bool:
    """Return whether a serializer only sets the columns that its validated values name, when it changes an object."""
    plain = ModelSerializer
    return all(getattr(serializer_class, name) is getattr(plain, name, None) for name in ("save", "update"))


def _is_same(field: Any, value: Any, stored: Any) -> bool:
    if isinstance(value, Model):  # a foreign key, which need not refer to the primary key
        value = getattr(value, field.target_field.attname)
    return type(value) is type(stored) and type(value) in PLAIN_TYPES and value == stored
