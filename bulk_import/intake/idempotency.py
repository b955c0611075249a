"""The client's Idempotency-Key: a request that is sent twice creates only one job.

This follows the IETF draft "The Idempotency-Key HTTP Header Field". The key is a column of the job, unique per
submitter and target, so it is valid for as long as the job exists. If two identical requests arrive at the same time,
the unique constraint rejects the second insert, and the second request gets the job of the first one.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport
from bulk_import.models import ImportJob

if TYPE_CHECKING:
    from bulk_import.conf import Target

MAX_KEY_CHARACTERS = 255


def read_key(header: str | None) -> str:
    """Return the key without the quotation marks that the draft allows, or "" if the request has no such header.

    Raises BadImport if the key is not valid, or if it is missing and required.
    """
    key = (header or "").strip().removeprefix('"').removesuffix('"')
    if not key.strip(' "') and (header is not None or conf().require_idempotency_key):
        message = _(
            "The Idempotency-Key is missing. Send a value of your choice, for example a UUID. "
            "If the same request arrives twice, its rows are then imported only once."
        )
        raise BadImport(message, code="idempotency_key_missing")
    if len(key) > MAX_KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
        message = _("The Idempotency-Key is not valid. It may have up to %(limit)d printable ASCII characters.")
        raise BadImport(message % {"limit": MAX_KEY_CHARACTERS}, code="idempotency_key_malformed")
    return key


def find_job(target: Target, submitter: Any, key: str, request_sha256: bytes) -> ImportJob | None:
    """Return the job that this request created before, or None if it has created no job. `key` must not be empty.

    Raises BadImport if a different request used the key.
    """
    job = ImportJob.objects.filter(target=target.name, submitter=submitter, idempotency_key=key).first()
    if job and bytes(job.request_sha256) != request_sha256:
        message = _("This Idempotency-Key was already used for a different request. Send a new key with a new import.")
        raise BadImport(message, code="idempotency_key_reused", status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return job
