"""Quotas: how many requests, open jobs and rows one user may have.

The quotas are checked without a lock, so a few requests that arrive at the same time may exceed them together.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.throttling import UserRateThrottle

from bulk_import.conf import conf
from bulk_import.exceptions import BodyTooLarge, QuotaExceeded
from bulk_import.models import ImportJob

DAY = timedelta(hours=24)
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
    if ImportJob.objects.filter(submitter=submitter).open().count() >= limit:
        message = _("You have %(limit)d unfinished imports, which is the limit. Wait until one of them finishes.")
        raise QuotaExceeded(message % {"limit": limit}, retry_after_seconds=OPEN_JOBS_RETRY_SECONDS)


def check_row_quota(submitter: Any, rows: int) -> None:
    """Raise QuotaExceeded if these rows and those of the last 24 hours exceed MAX_ROWS_PER_DAY.

    `rows` is the number of new rows. Raises BodyTooLarge if they exceed the quota by themselves, because then waiting
    does not help.
    """
    limit, now = conf().max_rows_per_day, timezone.now()
    if rows > limit:
        message = _(
            "This file has %(rows)d rows. You may import %(limit)d rows in 24 hours. Split it into several files."
        )
        raise BodyTooLarge(message % {"limit": limit, "rows": rows}, code="too_many_rows")
    recent = ImportJob.objects.filter(submitter=submitter, created_at__gt=now - DAY)
    sent = recent.aggregate(rows=Sum("rows", default=0))["rows"]
    excess = sent + rows - limit
    if excess <= 0:
        return
    for created_at, job_rows in recent.order_by("created_at").values_list("created_at", "rows"):
        excess -= job_rows
        if excess <= 0:  # when this job is a day old, the new rows fit into the quota
            message = _(
                "You may import %(limit)d rows in 24 hours. You have imported %(sent)d, and this file has %(rows)d. "
                "Try again later."
            )
            raise QuotaExceeded(
                message % {"limit": limit, "sent": sent, "rows": rows},
                retry_after_seconds=math.ceil((created_at + DAY - now).total_seconds()),
            )
