"""The message of a job: what happened and what happens next, in the active language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.formats import number_format, time_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bulk_import.conf import conf
from bulk_import.models import OUTCOME_LABELS, JobMode, JobStatus
from bulk_import.models.existing_objects import existing_count
from bulk_import.models.window import note_imports_ahead
from bulk_import.reports import message_texts as texts
from bulk_import_wire.contract import LEDGER_OUTCOMES

if TYPE_CHECKING:
    from datetime import datetime

    from django.utils.functional import _StrPromise

    from bulk_import.models import ImportJob

MANY = 2
"""Count that selects the plural of a noun in a text that does not contain a number."""


def message(job: ImportJob) -> str:
    """Return the message for the submitter. It also announces the email, and says what to do with existing objects.

    `job` needs `for_reports`.
    """
    text = summary(job)
    if job.mode == JobMode.SKIP and not is_nothing_new(job):
        text = f"{text} {existed_text(job)}".strip()
    elif job.is_terminal and (existing := existing_count(job)) and conf().targets.get(job.target, {}).get("detail_url"):
        text += " " + texts.EXISTING % {"existing_count": existing, "existing": grouped(existing)}
    if not job.is_terminal and any(job.recipients[:1]):
        text += " " + _("We will email you when it is done.")
    if "failures" in job.expired and job.status != JobStatus.SUCCEEDED:
        text += " " + _("The failures are no longer kept.")
    return text


def summary(job: ImportJob) -> str:
    """Return the message without the sentences that only the submitter sees. `job` needs `with_counts`."""
    is_change = not only_creates(job)
    template = (texts.CHANGE_MESSAGES if is_change else texts.MESSAGES)[JobStatus(job.status)]
    if job.mode == JobMode.UNDO or job.rehearsal:
        sentences = (_outcome_text(job), state_note(job))
        return " ".join(sentence % placeholders(job) for sentence in sentences if sentence)
    if job.is_being_cancelled:
        template = texts.CHANGE_CANCELLING if is_change else texts.CANCELLING
    elif job.is_paused_by_staff:
        template = texts.CHANGE_PAUSED_BY_STAFF if is_change else texts.PAUSED_BY_STAFF
    elif job.can_be_resumed:
        template = texts.CHANGE_PAUSED_BY_BREAKER if is_change else texts.PAUSED_BY_BREAKER
    elif imports_ahead(job):
        template = texts.WAITING
    elif job.is_terminal and is_nothing_new(job):
        template = texts.ALL_EXISTED
    text = template % placeholders(job)
    if resumes_at := job.worker_resumes_at:
        text += " " + _("A worker was lost. Its rows resume at %(time)s.") % {"time": clock_time(resumes_at)}
    return text


def only_creates(job: ImportJob) -> bool:
    """Return whether the job creates an object for each row, also because there was nothing to skip so far.

    `job` needs `with_counts`.
    """
    return job.mode == JobMode.CREATE or (job.mode == JobMode.SKIP and not job.unchanged_count)


def is_nothing_new(job: ImportJob) -> bool:
    """Return whether the objects of all rows existed, and were left as they are. `job` needs `with_counts`."""
    return job.mode == JobMode.SKIP and job.unchanged_count == job.rows


def existed_text(job: ImportJob) -> str:
    """Return a sentence about the rows whose objects existed and were left as they are, or "".

    It is only for a job that has ended. `job` needs `with_counts`.
    """
    count = job.unchanged_count if job.mode == JobMode.SKIP else existing_count(job)
    if not count or not job.is_terminal or job.rehearsal or job.mode == JobMode.UNDO:
        return ""
    values = {"existed_count": count, "existed": grouped(count), "existed_things": things(job.target, count)}
    return texts.EXISTED % values


def clock_time(moment: datetime) -> str:
    """Return the time of day with seconds, in the active time zone."""
    return time_format(timezone.localtime(moment), "H:i:s")


def _outcome_text(job: ImportJob) -> _StrPromise:
    """Return what an undo or a rehearsal has done, with placeholders."""
    if job.mode != JobMode.UNDO:
        return texts.REHEARSAL_MESSAGES[job.is_terminal]
    if job.status == JobStatus.FAILED and not job.rehearsal:
        return texts.UNDO_FAILED
    return texts.UNDO_MESSAGES[job.rehearsal, job.is_terminal]


def state_note(job: ImportJob) -> _StrPromise | str:
    """Return the sentence about the pause or the cancellation of an undo or a rehearsal, with placeholders, or ""."""
    state = str(job.status)
    if job.is_being_cancelled:
        state = "being cancelled"
    elif job.is_paused_by_staff:
        state = "paused by staff"
    elif job.can_be_resumed:
        state = "paused by the circuit breaker"
    return texts.NOTES.get(state, "")


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
    counts = job.counts
    return ", ".join(f"{grouped(counts[name])} {OUTCOME_LABELS[name]}" for name in LEDGER_OUTCOMES if counts[name])


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
