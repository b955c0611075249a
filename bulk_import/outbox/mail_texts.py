"""The texts of the emails that depend on what happened to a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy, ngettext_lazy

from bulk_import.models import EventKind, JobMode, JobStatus
from bulk_import.models.status import PENDING_ROWS
from bulk_import.reports.messages import is_nothing_new, only_creates, state_note
from bulk_import_wire.contract import Outcome, PauseCode

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    from bulk_import.models import ImportJob

SUBJECTS: dict[str, _StrPromise] = {
    JobStatus.SUCCEEDED: ngettext_lazy(
        "%(rows)s %(things)s was created", "All %(rows)s %(things)s were created", "row_count"
    ),
    JobStatus.PARTIALLY_SUCCEEDED: ngettext_lazy(
        "%(created)s of %(rows)s %(things)s was created",
        "%(created)s of %(rows)s %(things)s were created",
        "created_count",
    ),
    JobStatus.FAILED: ngettext_lazy(
        "%(rows)s %(things)s was not created", "None of the %(rows)s %(things)s was created", "row_count"
    ),
    JobStatus.CANCELLED: ngettext_lazy(
        "Import cancelled: %(created)s of %(rows)s %(things)s was created",
        "Import cancelled: %(created)s of %(rows)s %(things)s were created",
        "created_count",
    ),
    JobStatus.PAUSED: gettext_lazy("Import of %(rows)s %(things)s paused: %(reason)s"),
    EventKind.DEAD_LETTERED: ngettext_lazy(
        "%(unprocessed)s of %(rows)s %(things)s could not be processed",
        "%(unprocessed)s of %(rows)s %(things)s could not be processed",
        "unprocessed_count",
    ),
}
"""The subjects, by topic: the kind of the event if it is listed here, otherwise the status of the job."""

LEADS: dict[str, _StrPromise] = {
    JobStatus.SUCCEEDED: gettext_lazy("The import is complete. You do not need to do anything."),
    JobStatus.PARTIALLY_SUCCEEDED: gettext_lazy("The other rows were not created. See the reasons below."),
    JobStatus.FAILED: gettext_lazy("See the reasons below."),
    JobStatus.CANCELLED: gettext_lazy("The import has stopped. Rows that were already created remain."),
    JobStatus.PAUSED: ngettext_lazy(
        "%(created)s of %(rows)s %(things)s was created so far. "
        "We retry automatically, and the import continues as soon as the problem is solved.",
        "%(created)s of %(rows)s %(things)s were created so far. "
        "We retry automatically, and the import continues as soon as the problem is solved.",
        "created_count",
    ),
    PauseCode.MOST_ROWS_FAILED: ngettext_lazy(
        "%(created)s of %(rows)s %(things)s was created so far. We stopped, because the other rows would probably "
        "fail too.",
        "%(created)s of %(rows)s %(things)s were created so far. We stopped, because the other rows would probably "
        "fail too.",
        "created_count",
    ),
    EventKind.DEAD_LETTERED: gettext_lazy(
        "We tried several times without success. The import continues with the other rows. "
        "We will email you when it is done."
    ),
}
"""The first sentences below the subject, by topic, or by the reason of a pause."""

EXPLANATIONS: dict[str, _StrPromise] = {
    Outcome.REJECTED: gettext_lazy("these rows contain errors"),
    Outcome.FAILED: gettext_lazy("no valid response from the server, even after several attempts"),
    PENDING_ROWS: gettext_lazy("still to be processed"),
}
"""Explanations of the outcomes whose labels do not say enough."""

CHANGE_SUBJECTS: dict[str, _StrPromise] = {
    JobStatus.SUCCEEDED: ngettext_lazy(
        "%(rows)s %(things)s was imported", "All %(rows)s %(things)s were imported", "row_count"
    ),
    JobStatus.PARTIALLY_SUCCEEDED: ngettext_lazy(
        "%(done)s of %(rows)s %(things)s was imported",
        "%(done)s of %(rows)s %(things)s were imported",
        "done_count",
    ),
    JobStatus.FAILED: ngettext_lazy(
        "%(rows)s %(things)s was not imported", "None of the %(rows)s %(things)s was imported", "row_count"
    ),
    JobStatus.CANCELLED: ngettext_lazy(
        "Import cancelled: %(done)s of %(rows)s %(things)s was imported",
        "Import cancelled: %(done)s of %(rows)s %(things)s were imported",
        "done_count",
    ),
}
CHANGE_LEADS: dict[str, _StrPromise] = {
    JobStatus.PARTIALLY_SUCCEEDED: gettext_lazy("The other rows were not imported. See the reasons below."),
    JobStatus.CANCELLED: gettext_lazy("The import has stopped. What was already imported remains."),
    JobStatus.PAUSED: ngettext_lazy(
        "%(done)s of %(rows)s %(things)s was imported so far. "
        "We retry automatically, and the import continues as soon as the problem is solved.",
        "%(done)s of %(rows)s %(things)s were imported so far. "
        "We retry automatically, and the import continues as soon as the problem is solved.",
        "done_count",
    ),
    PauseCode.MOST_ROWS_FAILED: ngettext_lazy(
        "%(done)s of %(rows)s %(things)s was imported so far. We stopped, because the other rows would probably "
        "fail too.",
        "%(done)s of %(rows)s %(things)s were imported so far. We stopped, because the other rows would probably "
        "fail too.",
        "done_count",
    ),
}
"""The texts of a job that does not only create objects, where they differ."""


ALL_EXISTED_SUBJECT = ngettext_lazy(
    "%(rows)s %(things)s existed already", "All %(rows)s %(things)s existed already", "row_count"
)
"""The subject for an import that was to skip existing objects and found nothing new."""

UNDO_SUBJECT = gettext_lazy("Undo of an import: %(done)s of %(rows)s %(things)s deleted")
REHEARSED_UNDO_SUBJECT = gettext_lazy("Rehearsal of an undo: %(done)s of %(rows)s %(things)s would be deleted")
PAUSED_UNDO_SUBJECT = gettext_lazy("Undo of %(rows)s %(things)s paused: %(reason)s")
UNDO_LEAD = gettext_lazy("What was not deleted is listed with the reason.")
"""The texts of the emails about an undo."""

REHEARSAL_SUBJECT = gettext_lazy("Rehearsal: %(done)s of %(rows)s %(things)s would be imported")
REHEARSAL_LEAD = gettext_lazy("This is about a rehearsal. Nothing was changed.")
"""The texts of the emails about a rehearsal."""


def subject(job: ImportJob, topic: str) -> _StrPromise:
    """Return the subject for a topic, with placeholders."""
    if topic == JobStatus.PAUSED and job.mode == JobMode.UNDO:
        return PAUSED_UNDO_SUBJECT
    if topic in {JobStatus.PAUSED, EventKind.DEAD_LETTERED}:
        return SUBJECTS[topic]
    if job.mode == JobMode.UNDO:
        return REHEARSED_UNDO_SUBJECT if job.rehearsal else UNDO_SUBJECT
    if job.rehearsal:
        return REHEARSAL_SUBJECT
    if job.is_terminal and is_nothing_new(job):
        return ALL_EXISTED_SUBJECT
    return SUBJECTS[topic] if only_creates(job) else CHANGE_SUBJECTS.get(topic, SUBJECTS[topic])


def lead(job: ImportJob, topic: str) -> _StrPromise | str:
    """Return the first sentences for a topic, with placeholders."""
    if topic != EventKind.DEAD_LETTERED and (job.rehearsal or job.mode == JobMode.UNDO):
        is_incomplete = job.is_terminal and job.done_count < job.rows
        result = REHEARSAL_LEAD if job.rehearsal else UNDO_LEAD if is_incomplete else ""
        return f"{result} {state_note(job)}".strip()
    if topic == JobStatus.PAUSED and job.can_be_resumed:
        topic = PauseCode.MOST_ROWS_FAILED
    return LEADS[topic] if only_creates(job) else CHANGE_LEADS.get(topic, LEADS[topic])
