"""The call of the worker API that asks for probes: what to send to the create endpoints, and with which token."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.urls import NoReverseMatch
from rest_framework.fields import FileField, ImageField
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from bulk_import.authentication import ProbeToken
from bulk_import.conf import Target, conf
from bulk_import.intake.sample_row import sample_row
from bulk_import.models import table_places
from bulk_import.tracing import request_log_context
from bulk_import.worker_api.errors import check_contract
from bulk_import.worker_api.views import WorkerView
from bulk_import_wire.contract import Claim
from bulk_import_wire.probe import ProbeCall, ProbeRequest

if TYPE_CHECKING:
    from rest_framework.request import Request


FIX_FILES = (
    "Set required=False for the field and add the files later, or accept them as text with the Base64FileField of "
    "drf-extra-fields."
)


class ProbeThrottle(SimpleRateThrottle):
    """Limits the probes of the whole site, because each of them makes the create endpoint work."""

    rate = "60/min"

    def get_cache_key(self, request: Request, view: Any) -> str:  # noqa: ARG002 - DRF's signature
        return "bulk_import:probes"


class ProbeView(WorkerView):
    """Answers with one `ProbeCall` for each target, or for the target that the request names."""

    throttle_classes = [ProbeThrottle]

    def post(self, request: Request) -> Response:
        check_contract(request)
        with request_log_context(request):
            asked = ProbeRequest.from_dict(request.data)
            names = [asked.target] if asked.target else list(conf().targets)
            if unknown := set(names) - conf().targets.keys():
                message = f"There is no target {unknown.pop()!r}. The targets are: {', '.join(conf().targets)}."
                return Response({"code": "unknown_target", "message": message}, status=404)
            users = get_user_model()
            user = users._base_manager.filter(**{users.USERNAME_FIELD: asked.user}).first()  # noqa: SLF001 - documented API
            if user is None or not user.is_active:  # a user model need not have a column for it
                message = f"There is no active user whose {users.USERNAME_FIELD} is {asked.user!r}."
                return Response({"code": "unknown_user", "message": message}, status=404)
            return Response({"probes": [_probe(request, asked, conf().target(name), user).to_dict() for name in names]})


def _required_files(target: Target, request: Any) -> list[str]:
    """Return the required fields that accept only an uploaded file. A subclass may read the file from text."""
    fields = target.create_serializer(request).fields
    only_files = {FileField.to_internal_value, ImageField.to_internal_value}
    return [name for name, field in fields.items() if field.required and type(field).to_internal_value in only_files]


def _probe(request: Any, asked: ProbeRequest, target: Target, user: Any) -> ProbeCall:
    settings = conf()
    if not target.rehearse:
        message = "The endpoint was not tried, because the target does not allow rehearsals."
        fix = f'Set "rehearse": True in TARGETS["{target.name}"].'
        return ProbeCall(target.name, problem=message, fix=fix, is_allowed=False)
    request.user = user  # for the fields of the serializer, which may depend on it
    try:
        row = asked.row or sample_row(target, request)
        serializer, path = target.serializer_class, target.create_path
    except (NoReverseMatch, ImportError) as error:
        return ProbeCall(target.name, problem=f"The target cannot be used: {error}", fix="Run manage.py check.")
    except Exception as error:  # noqa: BLE001 - the target's own code may raise anything
        message = f"No row can be generated from the serializer: {type(error).__name__}: {error}"
        return ProbeCall(target.name, problem=message, fix="Pass a row with --row FILE.")
    if not asked.row and (files := _required_files(target, request)):
        message = f"The endpoint requires a file in {', '.join(files)}, and rows are JSON, which has no files."
        return ProbeCall(target.name, problem=message, fix=FIX_FILES)
    claim = Claim(
        epoch=0,
        lease_seconds=0,
        heartbeat_seconds=1,
        create_path=path,
        token=ProbeToken(target.name, str(user.pk)).sign(),
        language=str(getattr(request, "LANGUAGE_CODE", "")),
        created=[],
        failures_key="",
        concurrency=1,
        cancelled=False,
        token_header=settings.token_header,
        host=(asked.host or urlsplit(settings.public_url).netloc or request.get_host()) if settings.host_header else "",
        host_header=settings.host_header,
    )
    return ProbeCall(
        target.name,
        claim.to_dict(),
        row,
        key=f"{uuid.uuid4()}:0",
        is_generated=not asked.row,
        user=str(user.pk),
        success_statuses=list(map(int, target.success_statuses)),
        serializer=f"{serializer.__module__}.{serializer.__qualname__}",
        places=table_places(),
    )
