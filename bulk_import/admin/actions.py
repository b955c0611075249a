"""The actions that staff can perform on an import.

Each action asks for confirmation first. A double click has one effect. Each action is recorded in the admin's
history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

from bulk_import import operations

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.utils.functional import _StrPromise

    from bulk_import.models import ImportJob


@dataclass(frozen=True)
class Action:
    """One action and its texts.

    `perform` takes the job and the acting user. It returns a falsy value if nothing changed, for example because
    another member of staff performed the action first.
    """

    name: str
    label: _StrPromise  # text of the button
    consequence: _StrPromise  # shown when the page asks for confirmation
    done: _StrPromise  # shown afterwards, and written to the admin's history
    perform: Callable[[ImportJob, Any], int]
    is_possible: Callable[[ImportJob], bool]
    is_dangerous: bool = False


def has_dead_chunks(job: ImportJob) -> bool:
    return bool(job.chunks.dead().exists())


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "pause",
            _("Pause"),
            _("Calls that are in progress finish. No further row is created until staff resume the import."),
            _("The import was paused."),
            operations.pause,
            lambda job: job.can_be_cancelled and not job.is_paused_by_staff,
        ),
        Action(
            "resume",
            _("Resume"),
            _("The import continues now, even if it was paused automatically."),
            _("The import was resumed."),
            operations.resume,
            lambda job: job.is_paused,
        ),
        Action(
            "retry",
            _("Retry"),
            _("All rows that were not created run again. Rows that were created stay as they are."),
            _("The rows that were not created run again."),
            operations.retry,
            lambda job: job.can_be_retried,
        ),
        Action(
            "redrive",
            _("Redrive dead letters"),
            _("The unprocessed rows in dead letters run again. Rows that were created or rejected stay as they are."),
            _("The unprocessed rows in dead letters run again."),
            operations.redrive,
            lambda job: has_dead_chunks(job) and not job.expired,
        ),
        Action(
            "cancel",
            _("Cancel the import"),
            _("No further row is created. Rows that were created stay."),
            _("The import is being cancelled."),
            operations.cancel,
            lambda job: job.can_be_cancelled,
            is_dangerous=True,
        ),
        Action(
            "stop-user",
            _("Stop all imports of this user"),
            _("Every open import of the user who submitted this one is cancelled. Rows that were created stay."),
            _("All imports of the user are being cancelled."),
            operations.cancel_all_of_submitter,
            lambda job: operations.open_jobs_of_submitter(job).exists(),
            is_dangerous=True,
        ),
    )
}
"""The actions by name, in the order of their buttons."""


def possible_actions(job: ImportJob) -> list[Action]:
    return [action for action in ACTIONS.values() if action.is_possible(job)]
