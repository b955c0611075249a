"""The client's Idempotency-Key: the same request sent twice is one job.

After the IETF draft "The Idempotency-Key HTTP Header Field". The key is the job's own, unique per submitter and
target, so it lives as long as the job. Twins at the same instant meet at the unique constraint: the second gets
the first one's job.
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
    """The key, without the quotes of the draft's notation; "" for none. Raises BadImport."""
    key = (header or "").strip().removeprefix('"').removesuffix('"')
    if not key.strip(' "') and (header is not None or conf().require_idempotency_key):
        message = _("Send an Idempotency-Key of your choice, for example a UUID: the same import is then made once.")
        raise BadImport(message, code="idempotency_key_missing")
    if len(key) > MAX_KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
        message = _("An Idempotency-Key has at most %(limit)d printable ASCII characters.")
        raise BadImport(message % {"limit": MAX_KEY_CHARACTERS}, code="idempotency_key_malformed")
    return key


def find_job(target: Target, submitter: Any, key: str, request_sha256: bytes) -> ImportJob | None:
    """The job that this request made before, if any. Raises BadImport if another request made it."""
    if not key:
        return None
    job = ImportJob.objects.filter(target=target.name, submitter=submitter, idempotency_key=key).first()
    if job and bytes(job.request_sha256) != request_sha256:
        message = _("This Idempotency-Key was used for other content. Send a new key with a new import.")
        raise BadImport(message, code="idempotency_key_reused", status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return job
