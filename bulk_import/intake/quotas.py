"""Quotas: how many requests, open jobs and rows one user may have.

The quotas are checked without a lock, so a few requests that arrive at the same time may exceed them together.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.throttling import UserRateThrottle

from bulk_import.conf import conf
from bulk_import.exceptions import BodyTooLarge, QuotaExceeded
from bulk_import.models import ImportEvent, ImportJob
from bulk_import.models.kept_query import Parameter, kept_query

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
SINCE = Parameter("since", ImportJob._meta.get_field("created_at"))
OPEN_JOBS_RETRY_SECONDS = 60
"""Value of Retry-After when a user has too many open jobs. It cannot be known when one of them will finish."""


class SubmissionThrottle(UserRateThrottle):
    """Rate limit for the uploads of one user: `BULK_IMPORT["SUBMISSION_RATE"]`."""

    scope = "bulk_import"

    def get_rate(self) -> str:
        return conf().submission_rate


def check_open_job_quota(submitter: Any) -> None:
    """Raise QuotaExceeded if the user already has MAX_OPEN_JOBS unfinished jobs."""
    limit = conf().max_open_jobs
    if len(_open_jobs(submitter=submitter.pk)) >= limit:
        message = _("You have %(limit)d unfinished imports, which is the limit. Wait until one of them finishes.")
        raise QuotaExceeded(message % {"limit": limit}, retry_after_seconds=OPEN_JOBS_RETRY_SECONDS)


def check_row_quota(submitter: Any, rows: int) -> None:
    """Raise QuotaExceeded if these rows and those of the last 24 hours exceed MAX_ROWS_PER_DAY.

    `rows` is the number of new rows. The rows of dry runs count too. Raises BodyTooLarge if the new rows exceed the
    quota alone, because waiting would not help then.
    """
    limit = conf().max_rows_per_day
    if rows > limit:
        message = _(
            "This file has %(rows)d rows. You may import %(limit)d rows in 24 hours. Split it into several files."
        )
        raise BodyTooLarge(message % {"limit": limit, "rows": rows}, code="too_many_rows")
    sent, wait = _recent_rows(submitter, limit - rows)
    if wait:
        message = _(
            "You may import or check %(limit)d rows in 24 hours. You have sent %(sent)d. Try again later, or send "
            "fewer rows."
        )
        raise QuotaExceeded(message % {"limit": limit, "sent": sent}, retry_after_seconds=wait)


def check_retry_quota(submitter: Any, rows: int) -> None:
    """Raise QuotaExceeded if `rows`, which the user retries, and the rows of the last 24 hours exceed MAX_ROWS_PER_DAY.

    A user who has sent and retried nothing in the last 24 hours may retry any number of rows.
    """
    limit = conf().max_rows_per_day
    sent, wait = _recent_rows(submitter, limit - rows)
    if wait:
        message = _(
            "You may import %(limit)d rows in 24 hours. You have imported %(sent)d, and you retry %(rows)d. "
            "Try again later."
        )
        raise QuotaExceeded(message % {"limit": limit, "sent": sent, "rows": rows}, retry_after_seconds=wait)


def _recent_rows(submitter: Any, allowed: int) -> tuple[int, int]:
    """Return how many rows the user sent, checked and retried in the last 24 hours, and how long the user must wait.

    The wait is the number of seconds until at most `allowed` of these rows still count. It is 0 if that is so now.
    """
    now = timezone.now()
    since = {"submitter": submitter.pk, "since": now - DAY}
    uses = sorted([*_sent_rows(**since), *_retried_rows(**since), *dry_runs(submitter, now)])
    total = left = sum(rows for _at, rows in uses)
    wait = 0
    for at, rows in uses:
        if left <= allowed:
            break
        left -= rows  # when this use is a day old, its rows no longer count
        wait = math.ceil((at + DAY - now).total_seconds())
    return total, wait


def _submitter() -> Parameter:
    return Parameter("submitter", get_user_model()._meta.pk)


@kept_query
def _open_jobs() -> Any:
    return ImportJob.objects.open().filter(submitter=_submitter()).order_by().values_list("pk")


@kept_query
def _sent_rows() -> Any:
    own = ImportJob.objects.filter(submitter=_submitter(), created_at__gt=SINCE)
    return own.order_by().values_list("created_at", "rows")


@kept_query
def _retried_rows() -> Any:
    own = ImportEvent.objects.filter(actor=_submitter(), job__submitter=F("actor"), at__gt=SINCE, rows__gt=0)
    return own.order_by().values_list("at", "rows")


def count_dry_run(submitter: Any, rows: int) -> None:
    """Count the rows of a dry run for the row quota of the user.

    A dry run leaves nothing in the database. So its rows are counted in Django's cache, as DRF's throttles do, with one
    number for each hour.

    The numbers are read and then written, which is not atomic: of two dry runs at the same time, one may not count. A
    quota tolerates this.
    """
    this_hour = _hour(timezone.now())
    counts = _dry_run_counts(submitter, this_hour)
    counts[this_hour] = counts.get(this_hour, 0) + rows
    cache.set(_dry_run_key(submitter), list(counts.items()), timeout=(DAY + HOUR).total_seconds())


def dry_runs(submitter: Any, now: datetime) -> list[tuple[datetime, int]]:
    """Return the rows that the user has checked in the last 24 hours: for each hour, a time in it and their number."""
    this_hour = _hour(now)
    counts = _dry_run_counts(submitter, this_hour)
    return [(now - (this_hour - hour) * HOUR, rows) for hour, rows in counts.items()]


def _dry_run_counts(submitter: Any, this_hour: int) -> dict[int, int]:
    """Return the rows of each of the last 24 hours, by the number of the hour."""
    return {hour: rows for hour, rows in cache.get(_dry_run_key(submitter), []) if hour > this_hour - DAY // HOUR}


def _dry_run_key(submitter: Any) -> str:
    return f"bulk_import:dry_run_rows:{submitter.pk}"


def _hour(at: datetime) -> int:
    """Return the number of hours since 1970."""
    return int(at.timestamp() // HOUR.total_seconds())
