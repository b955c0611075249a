"""What a user has used of the quotas. Every upload needs it, so the SQL of both queries is kept, as in `row`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import connections, models

from bulk_import.models.database import database
from bulk_import.models.event import ImportEvent
from bulk_import.models.job import ImportJob
from bulk_import.models.status import TERMINAL_STATUSES

if TYPE_CHECKING:
    from datetime import datetime

TIME: models.DateTimeField[Any, Any] = models.DateTimeField()


def count_open_jobs(submitter: Any) -> int:
    """Return how many jobs of the user have not ended."""
    return _number(_open_jobs_query(database()), submitter)


def count_recent_rows(submitter: Any, since: datetime) -> int:
    """Return how many rows the user has sent and retried after this time."""
    after = TIME.get_db_prep_value(since, connections[database()])
    return _number(_recent_rows_query(database()), submitter, after=after)


def _number(sql: str, submitter: Any, **values: Any) -> int:
    connection = connections[database()]
    key: Any = get_user_model()._meta.pk
    with connection.cursor() as cursor:
        cursor.execute(sql, {"submitter": key.get_db_prep_value(submitter.pk, connection), **values})
        (number,) = cursor.fetchone()
    return int(number)


@cache
def _open_jobs_query(using: str) -> str:
    statuses = ", ".join(f"'{status}'" for status in sorted(TERMINAL_STATUSES))
    job = connections[using].ops.quote_name(ImportJob._meta.db_table)
    return f"SELECT COUNT(*) FROM {job} WHERE submitter_id = %(submitter)s AND status NOT IN ({statuses})"  # noqa: S608 - our own names


@cache
def _recent_rows_query(using: str) -> str:
    quote = connections[using].ops.quote_name
    job, event = quote(ImportJob._meta.db_table), quote(ImportEvent._meta.db_table)
    sent = f"SELECT COALESCE(SUM(rows), 0) FROM {job} WHERE submitter_id = %(submitter)s AND created_at > %(after)s"  # noqa: S608 - our own names
    retried = (
        f"SELECT COALESCE(SUM(event.rows), 0) FROM {event} event JOIN {job} job ON job.id = event.job_id"  # noqa: S608 - our own names
        " WHERE event.actor_id = %(submitter)s AND job.submitter_id = %(submitter)s AND event.at > %(after)s"
    )
    return f"SELECT ({sent}) + ({retried})"
