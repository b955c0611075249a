"""The errors for an action that the state of a job does not allow."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from bulk_import.exceptions import BadImport

if TYPE_CHECKING:
    from bulk_import.models import ImportJob


def conflict(message: str, *, code: str) -> BadImport:
    """Return the error with this message, which the API answers with 409."""
    return BadImport(message, code=code, status=HTTPStatus.CONFLICT)


def check_has_ended(job: ImportJob) -> None:
    """Raise BadImport if the job has not ended."""
    if job.is_terminal:
        return
    if job.rehearsal:
        message = _("The rehearsal has not ended yet. Wait for its end, or cancel it.")
        raise conflict(message, code="rehearsal_not_ended")
    raise conflict(_("The import has not ended yet. Wait for its end, or cancel it."), code="import_not_ended")
