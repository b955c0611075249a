"""What staff can do about an import. Each asks first, has one effect under a double click, and is logged."""

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
    """`perform` takes the job and who acts, and returns what changed: falsy for nothing."""

    name: str
    label: _StrPromise
    consequence: _StrPromise  # asked with the confirmation
    done: _StrPromise
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
            _("Calls under way end as they do; no further row is created until somebody lets the import go on."),
            _("The import is paused."),
            operations.pause,
            lambda job: job.can_be_cancelled and not job.is_paused_by_staff,
        ),
        Action(
            "resume",
            _("Resume"),
            _("Rows are created again at once, also if the import had paused by itself."),
            _("The import goes on."),
            operations.resume,
            lambda job: job.is_paused,
        ),
        Action(
            "retry",
            _("Retry"),
            _("All rows that were not created run again. What was created is not touched."),
            _("The rows that were not created run again."),
            operations.retry,
            lambda job: job.can_be_retried,
        ),
        Action(
            "redrive",
            _("Redrive"),
            _("The rows that were given up run again. What was created or rejected is not touched."),
            _("The rows that were given up run again."),
            operations.redrive,
            lambda job: has_dead_chunks(job) and not job.expired,
        ),
        Action(
            "cancel",
            _("Cancel the import"),
            _("No further row is created. What was created stays."),
            _("The import is being cancelled."),
            operations.cancel,
            lambda job: job.can_be_cancelled,
            is_dangerous=True,
        ),
    )
}
"""By name, in the order of their buttons."""


def possible_actions(job: ImportJob) -> list[Action]:
    return [action for action in ACTIONS.values() if action.is_possible(job)]
