"""How much one user may import at a time. A few requests at the same instant may pass a quota together."""

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


class SubmissionThrottle(UserRateThrottle):
    """POSTs per user, `BULK_IMPORT["SUBMISSION_RATE"]`."""

    scope = "bulk_import"

    def get_rate(self) -> str:
        return conf().submission_rate


def check_open_job_quota(submitter: Any) -> None:
    """Raises QuotaExceeded when the user has too many jobs that have not ended."""
    limit = conf().max_open_jobs
    if ImportJob.objects.filter(submitter=submitter).open().count() >= limit:
        message = _("You have %(limit)d imports that have not ended yet. Wait until one of them has.")
        raise QuotaExceeded(message % {"limit": limit}, retry_after_seconds=OPEN_JOBS_RETRY_SECONDS)


def check_row_quota(submitter: Any, rows: int) -> None:
    """Raises QuotaExceeded when these rows and those of the last 24 hours are too many.

    Raises BodyTooLarge when these alone are: waiting would not help.
    """
    limit, now = conf().max_rows_per_day, timezone.now()
    if rows > limit:
        message = _("You may import %(limit)d rows in 24 hours; these are %(rows)d.")
        raise BodyTooLarge(message % {"limit": limit, "rows": rows}, code="too_many_rows")
    recent = ImportJob.objects.filter(submitter=submitter, created_at__gt=now - DAY)
    sent = recent.aggregate(rows=Sum("rows", default=0))["rows"]
    excess = sent + rows - limit
    if excess <= 0:
        return
    for created_at, job_rows in recent.order_by("created_at").values_list("created_at", "rows"):
        excess -= job_rows
        if excess <= 0:  # by then, enough of them are a day old
            message = _("You may import %(limit)d rows in 24 hours; you sent %(sent)d so far, and now %(rows)d.")
            raise QuotaExceeded(
                message % {"limit": limit, "sent": sent, "rows": rows},
                retry_after_seconds=math.ceil((created_at + DAY - now).total_seconds()),
            )
