"""The texts of the message of a job, which `messages` chooses from and fills in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy, ngettext_lazy

from bulk_import.models import JobStatus

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

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
EXISTING = ngettext_lazy(
    "%(existing)s of them exists already. To leave it as it is, send the file again with mode=upsert and "
    "on_existing=skip. To change it, send it with on_existing=update.",
    "%(existing)s of them exist already. To leave them as they are, send the file again with mode=upsert and "
    "on_existing=skip. To change them, send it with on_existing=update.",
    "existing_count",
)
"""What the message of a job adds if rows were rejected because their objects exist."""

EXISTED = ngettext_lazy(
    "%(existed)s %(existed_things)s existed already and was left unchanged.",
    "%(existed)s %(existed_things)s existed already and were left unchanged.",
    "existed_count",
)
"""What the texts of an ended import say about the rows whose objects existed."""

ALL_EXISTED = ngettext_lazy(
    "%(rows)s %(things)s existed already and was left unchanged.",
    "All %(rows)s %(things)s existed already and were left unchanged.",
    "row_count",
)
"""The message of an import that was to skip existing objects and found nothing new."""

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
