"""The message of a job: what happened and what happens next, in the active language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.formats import number_format, time_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from bulk_import.conf import conf
from bulk_import.models import OUTCOME_LABELS, JobMode, JobStatus
from bulk_import.models.window import note_imports_ahead
from bulk_import_wire.contract import LEDGER_OUTCOMES

if TYPE_CHECKING:
    from datetime import datetime

    from django.utils.functional import _StrPromise

    from bulk_import.models import ImportJob

MANY = 2
"""Count that selects the plural of a noun in a text that does not contain a number."""

MESSAGES: dict[JobStatus, _StrPromise] = {
    JobStatus.PENDING: ngettext_lazy(
        "We received %(rows)s %(things)s and will create it as soon as our queue is available.",
        "We received %(rows)s %(things)s and will create them as soon as our queue is available.",
        "row_count",
    ),
    JobStatus.QUEUED: ngettext_lazy(
        "We received %(rows)s %(things)s and are about to create it.",
        "We received %(rows)s %(things)s and are about to create them.",
        "row_count",
    ),
    JobStatus.PROCESSING: ngettext_lazy(
        "We received %(rows)s %(things)s and are creating it.",
        "We received %(rows)s %(things)s and are creating them.",
        "row_count",
    ),
    JobStatus.PAUSED: ngettext_lazy(
        "The import of %(rows)s %(things)s is paused because %(reason)s. %(created)s was created so far. "
        "We retry automatically.",
        "The import of %(rows)s %(things)s is paused because %(reason)s. %(created)s were created so far. "
        "We retry automatically.",
        "created_count",
    ),
    JobStatus.SUCCEEDED: ngettext_lazy(
        "%(rows)s %(things)s was created.",
        "All %(rows)s %(things)s were created.",
        "row_count",
    ),
    JobStatus.PARTIALLY_SUCCEEDED: ngettext_lazy(
        "%(created)s of %(rows)s %(things)s was created. See the reasons for the others below.",
        "%(created)s of %(rows)s %(things)s were created. See the reasons for the others below.",
        "created_count",
    ),
    JobStatus.FAILED: ngettext_lazy(
        "%(rows)s %(things)s was not created. See the reasons below.",
        "None of the %(rows)s %(things)s was created. See the reasons below.",
        "row_count",
    ),
    JobStatus.CANCELLED: gettext_lazy("The import was cancelled. %(created)s of %(rows)s %(things)s had been created."),
}

WAITING = ngettext_lazy(
    "We received %(rows)s %(things)s. %(ahead)s import is ahead of yours.",
    "We received %(rows)s %(things)s. %(ahead)s imports are ahead of yours.",
    "ahead_count",
)
CHANGE_MESSAGES: dict[JobStatus, _StrPromise] = {
    JobStatus.PENDING: ngettext_lazy(
        "We received %(rows)s %(things)s and will import it as soon as our queue is available.",
        "We received %(rows)s %(things)s and will import them as soon as our queue is available.",
        "row_count",
    ),
    JobStatus.QUEUED: ngettext_lazy(
        "We received %(rows)s %(things)s and are about to import it.",
        "We received %(rows)s %(things)s and are about to import them.",
        "row_count",
    ),
    JobStatus.PROCESSING: ngettext_lazy(
        "We received %(rows)s %(things)s and are importing it.",
        "We received %(rows)s %(things)s and are importing them.",
        "row_count",
    ),
    JobStatus.PAUSED: ngettext_lazy(
        "The import of %(rows)s %(things)s is paused because %(reason)s. %(done)s was imported so far. "
        "We retry automatically.",
        "The import of %(rows)s %(things)s is paused because %(reason)s. %(done)s were imported so far. "
        "We retry automatically.",
        "done_count",
    ),
    JobStatus.SUCCEEDED: ngettext_lazy(
        "%(rows)s %(things)s was imported: %(outcomes)s.",
        "All %(rows)s %(things)s were imported: %(outcomes)s.",
        "row_count",
    ),
    JobStatus.PARTIALLY_SUCCEEDED: ngettext_lazy(
        "%(done)s of %(rows)s %(things)s was imported: %(outcomes)s. See the reasons for the others below.",
        "%(done)s of %(rows)s %(things)s were imported: %(outcomes)s. See the reasons for the others below.",
        "done_count",
    ),
    JobStatus.FAILED: ngettext_lazy(
        "%(rows)s %(things)s was not imported. See the reasons below.",
        "None of the %(rows)s %(things)s was imported. See the reasons below.",
        "row_count",
    ),
    JobStatus.CANCELLED: gettext_lazy("The import was cancelled. %(done)s of %(rows)s %(things)s had been imported."),
}
"""The messages of a job that does not only create objects, by status."""

CANCELLING = ngettext_lazy(
    "The import is being cancelled. No more rows are created. So far, %(created)s of %(rows)s %(things)s was created.",
    "The import is being cancelled. No more rows are created. So far, %(created)s of %(rows)s %(things)s were created.",
    "created_count",
)
PAUSED_BY_STAFF = ngettext_lazy(
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(created)s was created so far. "
    "The import continues when staff resume it.",
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(created)s were created so far. "
    "The import continues when staff resume it.",
    "created_count",
)
CHANGE_CANCELLING = ngettext_lazy(
    "The import is being cancelled. No more rows are imported. So far, %(done)s of %(rows)s %(things)s was imported.",
    "The import is being cancelled. No more rows are imported. So far, %(done)s of %(rows)s %(things)s were imported.",
    "done_count",
)
CHANGE_PAUSED_BY_STAFF = ngettext_lazy(
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(done)s was imported so far. "
    "The import continues when staff resume it.",
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(done)s were imported so far. "
    "The import continues when staff resume it.",
    "done_count",
)


UNDO_MESSAGES: dict[tuple[bool, bool], _StrPromise] = {
    (False, False): gettext_lazy("An import is being undone. Deleted so far: %(done)s of %(rows)s %(things)s."),
    (False, True): gettext_lazy("An import was undone. Deleted: %(done)s of %(rows)s %(things)s."),
    (True, False): gettext_lazy(
        "This is a rehearsal of an undo, and nothing is deleted. So far, %(done)s of %(rows)s %(things)s would be "
        "deleted."
    ),
    (True, True): gettext_lazy(
        "This was a rehearsal of an undo, and nothing was deleted. %(done)s of %(rows)s %(things)s would be deleted."
    ),
}
"""The messages of an undo, by whether it is a rehearsal and whether it has ended."""

UNDO_FAILED = ngettext_lazy(
    "The undo of an import has ended. %(rows)s %(things)s was not deleted. See the reasons below.",
    "The undo of an import has ended. None of the %(rows)s %(things)s was deleted. See the reasons below.",
    "row_count",
)
"""The message of an undo that has deleted nothing."""

REHEARSAL_MESSAGES: dict[bool, _StrPromise] = {
    False: gettext_lazy(
        "This is a rehearsal: every row is tried, and nothing is imported. So far, %(done)s of %(rows)s %(things)s "
        "would be imported."
    ),
    True: gettext_lazy(
        "This was a rehearsal, and nothing was imported. %(done)s of %(rows)s %(things)s would be imported."
    ),
}
"""The messages of a rehearsal: while it runs, and after its end."""

NOTES: dict[str, _StrPromise] = {
    JobStatus.PAUSED: gettext_lazy("It is paused because %(reason)s. We retry automatically."),
    "paused by staff": gettext_lazy("It is paused because %(reason)s. It continues when staff resume it."),
    "paused by the circuit breaker": gettext_lazy(
        "It is paused because %(reason)s. Fix the cause and resume it, or cancel it."
    ),
    "being cancelled": gettext_lazy("It is being cancelled."),
    JobStatus.CANCELLED: gettext_lazy("It was cancelled before its end."),
}
"""What the messages of undos and rehearsals add in some states."""

PAUSED_BY_BREAKER = ngettext_lazy(
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(created)s was created so far. "
    "Fix the cause and resume the import, or cancel it.",
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(created)s were created so far. "
    "Fix the cause and resume the import, or cancel it.",
    "created_count",
)
CHANGE_PAUSED_BY_BREAKER = ngettext_lazy(
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(done)s was imported so far. "
    "Fix the cause and resume the import, or cancel it.",
    "The import of %(rows)s %(things)s is paused because %(reason)s. %(done)s were imported so far. "
    "Fix the cause and resume the import, or cancel it.",
    "done_count",
)


def message(job: ImportJob) -> str:
    """Return the message for the submitter. It also announces the email. `job` needs `for_reports`."""
    text = summary(job)
    if not job.is_terminal and any(job.recipients[:1]):
        text += " " + _("We will email you when it is done.")
    if "failures" in job.expired and job.status != JobStatus.SUCCEEDED:
        text += " " + _("The failures are no longer kept.")
    return text


def summary(job: ImportJob) -> str:
    """Return the message without the sentences that only the submitter sees. `job` needs `with_counts`."""
    is_change = job.mode != JobMode.CREATE
    template = (CHANGE_MESSAGES if is_change else MESSAGES)[JobStatus(job.status)]
    if job.mode == JobMode.UNDO or job.rehearsal:
        texts = (_outcome_text(job), state_note(job))
        return " ".join(text % placeholders(job) for text in texts if text)
    if job.is_being_cancelled:
        template = CHANGE_CANCELLING if is_change else CANCELLING
    elif job.is_paused_by_staff:
        template = CHANGE_PAUSED_BY_STAFF if is_change else PAUSED_BY_STAFF
    elif job.can_be_resumed:
        template = CHANGE_PAUSED_BY_BREAKER if is_change else PAUSED_BY_BREAKER
    elif imports_ahead(job):
        template = WAITING
    text = template % placeholders(job)
    if resumes_at := job.worker_resumes_at:
        text += " " + _("A worker was lost. Its rows resume at %(time)s.") % {"time": clock_time(resumes_at)}
    return text


def clock_time(moment: datetime) -> str:
    """Return the time of day with seconds, in the active time zone."""
    return time_format(timezone.localtime(moment), "H:i:s")


def _outcome_text(job: ImportJob) -> _StrPromise:
    """Return what an undo or a rehearsal has done, with placeholders."""
    if job.mode != JobMode.UNDO:
        return REHEARSAL_MESSAGES[job.is_terminal]
    if job.status == JobStatus.FAILED and not job.rehearsal:
        return UNDO_FAILED
    return UNDO_MESSAGES[job.rehearsal, job.is_terminal]


def state_note(job: ImportJob) -> _StrPromise | str:
    """Return the sentence about the pause or the cancellation of an undo or a rehearsal, with placeholders, or ""."""
    state = str(job.status)
    if job.is_being_cancelled:
        state = "being cancelled"
    elif job.is_paused_by_staff:
        state = "paused by staff"
    elif job.can_be_resumed:
        state = "paused by the circuit breaker"
    return NOTES.get(state, "")


def imports_ahead(job: ImportJob) -> int | None:
    """Return how many other imports come before this one, or None if it does not wait for its turn.

    For many jobs, call `note_imports_ahead` first, which reads the jobs of each target only once.
    """
    if not hasattr(job, "imports_ahead"):
        note_imports_ahead([job])
    return job.imports_ahead


def placeholders(job: ImportJob) -> dict[str, Any]:
    """Return the values of the placeholders, such as `%(rows)s`, in texts about a job. `job` needs `with_counts`.

    The values named `*_count` are plain numbers, which select the singular or plural of a text.
    """
    return {
        "row_count": job.rows,
        "rows": grouped(job.rows),
        "created_count": job.created_count,
        "created": grouped(job.created_count),
        "done_count": job.done_count,
        "done": grouped(job.done_count),
        "outcomes": outcomes_text(job),
        "unprocessed_count": job.unprocessed_count,
        "unprocessed": grouped(job.unprocessed_count),
        "ahead_count": imports_ahead(job) or 0,
        "ahead": grouped(imports_ahead(job) or 0),
        "things": things(job.target, job.rows),
        "reason": job.get_pause_code_display(),
    }


def outcomes_text(job: ImportJob) -> str:
    """Return the outcomes of the rows that were imported, such as "3 created, 1,200 updated"."""
    counts = ((name, job.counts[name]) for name in LEDGER_OUTCOMES)
    return ", ".join(f"{grouped(count)} {OUTCOME_LABELS[name]}" for name, count in counts if count)


def grouped(number: int) -> str:
    """Format a number with the thousands separator of the active language, such as "1,994" or "1.994"."""
    return number_format(number, force_grouping=True)


def things(target: str, count: int = MANY) -> str:
    """Return the noun for `count` rows of a target, such as "products".

    It is the verbose name of the serializer's model, or "rows" if the serializer has no model or the target is no
    longer configured.
    """
    try:
        model = conf().target(target).serializer_class.Meta.model  # type: ignore[attr-defined] # caught below
    except (KeyError, AttributeError):
        return ngettext("row", "rows", count)
    return str(model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural)
