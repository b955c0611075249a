"""What a target and a user need for each mode of an import: create, update or upsert."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException
from rest_framework.request import clone_request

from bulk_import.exceptions import BadImport
from bulk_import.models import ON_EXISTING, PARTIAL_MODES, JobMode

if TYPE_CHECKING:
    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.detail_endpoint import DetailEndpoint


def check_supports(target: Target, mode: str, *, rehearse: bool = False) -> None:
    """Raise BadImport, with the missing entry, if the target is not configured for imports in this mode.

    `rehearse` says whether the import is a rehearsal.
    """
    if rehearse and not target.rehearse:
        message = _("This site does not support rehearse=true here: the target “%(target)s” has no rehearse.")
        message %= {"target": target.name}
        raise BadImport(message, code="rehearsal_not_supported", status=HTTPStatus.BAD_REQUEST)
    needed = {JobMode.CREATE: (), JobMode.UNDO: ("detail_url",)}.get(JobMode(mode), ("detail_url", "lookup"))
    missing = [name for name in needed if not getattr(target, name)]
    if missing:
        message = _("This site does not support mode=%(mode)s here: the target “%(target)s” has no %(entry)s.")
        message %= {
            "mode": JobMode.UPSERT if mode in ON_EXISTING else mode,
            "target": target.name,
            "entry": " and no ".join(missing),
        }
        raise BadImport(message, code="mode_not_supported", status=HTTPStatus.BAD_REQUEST)


def check_may_import(target: Target, request: Request, mode: str) -> None:
    """Raise what the endpoint's own permissions raise if the user of the request may not import in this mode.

    An update needs the permission to change objects, an upsert the permission to create or to change them, and an undo
    the permission to delete them. An upsert that changes nothing needs the permission to create them. The endpoint
    checks each row again.
    """
    endpoint = target.detail_endpoint if mode in {*PARTIAL_MODES, JobMode.UNDO} else None
    if endpoint is None:
        target.create_view(request).check_permissions(request)
        return
    if mode == JobMode.UPSERT:
        try:
            target.create_view(request).check_permissions(request)
        except (APIException, PermissionDenied, Http404):
            pass
        else:
            return
    view = detail_view(endpoint, request, "DELETE" if mode == JobMode.UNDO else "PATCH")
    view.check_permissions(view.request)


def detail_view(endpoint: DetailEndpoint, request: Request, method: str) -> Any:
    """Return a new view of the endpoint, with a request of this method from the same user."""
    clone = clone_request(request, method)
    view = endpoint.view(clone._request)  # noqa: SLF001 - DRF's own name for Django's request
    view.request = clone
    view.action = view.action_map.get(method.lower())
    return view
