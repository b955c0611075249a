"""How the create endpoints answer the workers, as the workers report it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Q
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from bulk_import.admin import advice
from bulk_import.models import ChunkStatus, ImportChunk
from bulk_import.models.chunk_columns import SILENCE
from bulk_import.models.status import OUTSTANDING_CHUNK_STATUSES
from bulk_import.reports.messages import grouped
from bulk_import_wire.calls import NO_ANSWER, NO_VERDICT, Calls

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

RECENT = timedelta(minutes=5)
"""Age of the reports that count."""

MAX_REPORTS = 1000
"""Maximum number of reports that are read, the newest first."""

SLOW_SECONDS = 1.0
"""Mean duration of a call above which the page calls the endpoint slow."""

HANGING_SECONDS = 10.0
"""Duration of a call in flight above which the page calls the endpoint slow."""

MANY_SHARE = 0.1
"""Share of all calls above which an answer that staff can do something about is a problem of the endpoint."""


@dataclass
class Endpoint:
    """The create endpoint of one target, in the last minutes."""

    target: str
    answers: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # sum of how long the calls took
    in_flight: int = 0
    oldest_seconds: float = 0.0  # how long the oldest call in flight has been waiting

    @property
    def calls(self) -> int:
        """The number of calls that have ended."""
        return self.answers.total()

    @property
    def mean_seconds(self) -> float:
        return self.seconds / self.calls if self.calls else 0.0

    @property
    def latency(self) -> str:
        """How long a call takes, for people; "-" if none has ended."""
        return seconds_text(self.mean_seconds) if self.calls else "-"

    @property
    def trouble(self) -> tuple[str, _StrPromise] | None:
        """What is wrong with the endpoint and what staff can do, or None if it answers normally."""
        bad = Counter({kind: count for kind, count in self.answers.items() if advice.about_answer(kind)})
        for kind, _count in bad.most_common(1):
            text = advice.about_answer(kind)
            if text and bad.total() >= MANY_SHARE * self.calls:
                return _("The endpoint often answers: %(answer)s.") % {"answer": answer_text(kind)}, text
        if self.oldest_seconds > HANGING_SECONDS:
            waited = seconds_text(self.oldest_seconds)
            return _("The endpoint is slow: a call has been waiting for %(time)s.") % {"time": waited}, advice.SLOW
        if self.mean_seconds > SLOW_SECONDS:
            return _("The endpoint is slow: a call takes %(time)s.") % {"time": self.latency}, advice.SLOW
        return None

    @property
    def answer_texts(self) -> list[tuple[str, str]]:
        """Each answer and how often it was given, the most frequent first."""
        return [(answer_text(kind), grouped(count)) for kind, count in self.answers.most_common()]

    @property
    def oldest(self) -> str:
        return seconds_text(self.oldest_seconds)


def endpoints() -> list[Endpoint]:
    """Return the endpoints that workers called in the last minutes, by target. Runs one query."""
    now = timezone.now()
    since = now - RECENT
    is_open = Q(status__in=OUTSTANDING_CHUNK_STATUSES, heartbeat_at__gt=since)
    # A chunk that ended without a worker, for example after a cancel, has no report.
    is_recent = Q(ended_at__gt=since) | is_open
    reports = ImportChunk.objects.filter(is_recent, heartbeat_at__gt=since).order_by("-heartbeat_at")
    found: dict[str, Endpoint] = {}
    columns = ("job__target", "status", "heartbeat_at", "lease_expires_at", "calls")
    for target, status, heartbeat_at, lease_expires_at, reported in reports.values_list(*columns)[:MAX_REPORTS]:
        calls = Calls.from_dict(reported)
        endpoint = found.setdefault(target, Endpoint(target))
        endpoint.answers.update(calls.answers)
        endpoint.seconds += calls.total_ms / 1000
        # A worker that was lost has no calls in flight any more.
        if status == ChunkStatus.PROCESSING and heartbeat_at > now - SILENCE and lease_expires_at > now:
            endpoint.in_flight += calls.in_flight
            endpoint.oldest_seconds = max(endpoint.oldest_seconds, calls.oldest_ms / 1000)
    return [found[target] for target in sorted(found)]


def answer_text(kind: str) -> str:
    """Return the text for a key of `Calls.answers`."""
    texts = {NO_ANSWER: _("no answer"), NO_VERDICT: _("an answer without a verdict")}
    return f"HTTP {kind}" if kind.isdecimal() else texts.get(kind, kind)


def seconds_text(seconds: float) -> str:
    """Return a duration such as "83 ms" or "2.4 s"."""
    return f"{round(seconds * 1000)} ms" if seconds < 1 else f"{number_format(seconds, 1)} s"
