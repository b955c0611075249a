"""The timeline of a job: what happened, when, how long after the event before, and who did it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.models import EventKind

if TYPE_CHECKING:
    from datetime import datetime

    from bulk_import.models import ImportJob

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
"""Seconds and symbol of each unit of a duration, the largest first."""


@dataclass
class Entry:
    """One event. `after` is the duration since the entry before, such as "2 min 5 s"; "" for the first one."""

    at: datetime
    kind: str
    text: str
    actor: Any = None
    after: str = ""


def timeline(job: ImportJob) -> list[Entry]:
    """Return the entries of a job in the order of their times. Runs one query."""
    entries = [Entry(job.created_at, "accepted", _("accepted"), job.submitter)]
    if job.started_at:
        entries.append(Entry(job.started_at, "started", _("started")))
    for event in job.events.select_related("actor"):
        text = f"{event.get_kind_display()} · {event.reason}" if event.note else event.get_kind_display()
        if event.kind == EventKind.DEAD_LETTERED:
            text = _("chunk %(number)s is dead") % {"number": event.note}
        entries.append(Entry(event.at, event.kind, text, event.actor))
    entries.sort(key=lambda entry: entry.at)
    for before, entry in pairwise(entries):
        entry.after = duration((entry.at - before.at).total_seconds())
    return entries


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as "2 min 5 s". Less than 10 seconds have one decimal."""
    if seconds < 10:  # noqa: PLR2004 - explained above
        return f"{seconds:.1f} s"
    parts: list[str] = []
    left = round(seconds)
    for length, symbol in UNITS:
        count, left = divmod(left, length)
        parts += [f"{count} {symbol}"] if count or parts else []
    return " ".join(parts[:2])
