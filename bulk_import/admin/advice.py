"""What staff can do about a job, a pause, and the answers of the create endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

from bulk_import.models import JobStatus
from bulk_import_wire.calls import NO_ANSWER, NO_VERDICT
from bulk_import_wire.contract import PauseCode, RowVerdict

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    from bulk_import.models import ImportJob

PAUSES: dict[str, _StrPromise] = {
    PauseCode.ENDPOINT_AWAY: _("Check that the site runs and that the workers reach it."),
    PauseCode.ENDPOINT_BUSY: _(
        "Find out why the create endpoint answers 429 or 503: it is overloaded, or it limits the rate of the sender."
    ),
    PauseCode.FORBIDDEN: _(
        "Give the sender the permission to create these rows again, and check that the account is active."
    ),
    PauseCode.TOKEN_REJECTED: _(
        "Let the imports' Authorization header pass what is in front of the site, or set TOKEN_HEADER."
    ),
    PauseCode.WRONG_ENDPOINT: _("Check the URL that the worker calls and the target's create_url."),
    PauseCode.WRONG_STATUS: _("Add the status to the target's success_statuses if it means that the row was created."),
    PauseCode.STAFF: _("Staff paused this import. Resume it when it can continue, or cancel it."),
    PauseCode.MOST_ROWS_FAILED: _(
        "Nearly every row failed. Find the cause in the log of the create endpoint and fix it. Then you or the sender "
        "can resume the import. It is not paused for this reason again."
    ),
}
"""What staff can do about each pause."""

RETRIES = _("We retry automatically. You can also resume the import now, or cancel it.")
"""How a pause ends that no person has to end."""

CANCELLING = _(
    "Calls that are in progress finish, and no further row is created. If this takes long, check that a worker runs."
)
WORKER_LOST = _(
    "A worker stopped without a word, for example because it was killed or ran out of memory. Another one continues. "
    "If this happens again, find the cause in the log of the worker."
)
RELAY_LATE = _(
    "A worker stopped without a word, and its rows should have been sent to another one already. Check that manage.py "
    "bulk_import_relay runs, and that SQS accepts messages."
)
EXPIRED = _(
    "The rows of this import are no longer stored, so it cannot run again. The sender can send them as a new import."
)
REHEARSAL = _("Every row is tried and rolled back. The sender can start the import after the rehearsal.")
FIX_AND_RETRY = _(
    "See the reasons below. If you can fix the cause, fix it and retry. Otherwise, the sender corrects these rows and "
    "sends them again."
)
STATUSES = {
    JobStatus.PENDING: _(
        "The import waits for its turn. You can move it to the front. If no other import is running, check that the "
        "relay runs and that SQS accepts messages."
    ),
    JobStatus.QUEUED: _("The import waits for a worker. If this takes long, check that a worker runs."),
    JobStatus.PROCESSING: _("Rows are being created. You can pause or cancel the import, or change its concurrency."),
    JobStatus.SUCCEEDED: _("Every row was processed. You do not have to do anything."),
    JobStatus.PARTIALLY_SUCCEEDED: FIX_AND_RETRY,
    JobStatus.FAILED: FIX_AND_RETRY,
    JobStatus.CANCELLED: _("The import was cancelled. Retry it to create the remaining rows."),
}
"""What staff can do about a job in each status. A paused job has the advice of its pause."""

BUSY = _(
    "It is overloaded, or it limits the rate of the sender. The workers make fewer calls by themselves. Pause large "
    "imports if other users have to wait."
)
NOT_ALLOWED = _("The senders may not create these rows. Check their permissions; see the paused imports.")
ANSWERS = {
    NO_ANSWER: _("Check that the site runs, that its web servers are not all busy, and that the workers reach it."),
    NO_VERDICT: _(
        "Something else answers in its place, such as a login page, or the middleware is missing. Run manage.py "
        "bulk_import_doctor."
    ),
    RowVerdict.WRONG_ENDPOINT.value: PAUSES[PauseCode.WRONG_ENDPOINT],
    "429": BUSY,
    "503": BUSY,
    "401": NOT_ALLOWED,
    "403": NOT_ALLOWED,
}
"""What staff can do if the create endpoint gives many of these answers. See also `about_answer`."""

ENDPOINT_FAILS = _("It fails. Find the error in the log of the site.")
SLOW = _(
    "Find out why in the log and the database of the site. The workers make fewer calls at once by themselves. Pause "
    "large imports, or lower their concurrency, if other users have to wait."
)
NO_WORKER = _("Check that a worker runs, that it reads this queue, and that the relay runs. Nothing is lost meanwhile.")
DEAD = _("Open the import: its problems say why its chunks died. Fix the cause, then choose “Run dead chunks again”.")
DEAD_HERE = _("Its problems say why chunks of this import died. Fix the cause, then choose “Run dead chunks again”.")


def about_job(job: ImportJob) -> str:
    """Return what staff can do about this job now. Needs `with_counts`."""
    special = (
        (job.is_being_cancelled, CANCELLING),
        (job.worker_resumes_at, WORKER_LOST),
        (job.expired and job.status != JobStatus.SUCCEEDED, EXPIRED),
        (job.chunks.dead().exists(), DEAD_HERE),
        (job.rehearsal, REHEARSAL),
    )
    if job.is_paused:
        text = PAUSES.get(job.pause_code, "")
        return str(text) if job.is_paused_until_resumed else f"{text} {RETRIES}".strip()
    return str(next((text for applies, text in special if applies), STATUSES[JobStatus(job.status)]))


def about_answer(kind: str) -> _StrPromise | None:
    """Return what staff can do about an answer of the create endpoint, or None if it is normal.

    `kind` is a key of `Calls.answers`. A row that is rejected is normal: its sender corrects it.
    """
    is_failure = kind.startswith("5") and kind.isdecimal()
    return ANSWERS.get(kind, ENDPOINT_FAILS if is_failure else None)
