"""The wire contract between the monolith (`bulk_import`) and the worker (`lambda_worker`).

This module uses the standard library only, so that both sides can import it. It defines two things:

- The worker API, `POST {WORKER_API_PATH}chunks/{chunk_id}/{claim|heartbeat|release|finish|dead|rows}`. The other
  dataclasses below are the bodies of its requests and answers. `bulk_import_wire.batch` has those of a batch call
  (`rows`), `bulk_import_wire.probe` those of a probe, and `bulk_import_wire.calls` what a worker reports of its calls.
- The create call: a request to the target's own endpoint. It carries the headers `Authorization` (or the claim's
  `token_header`, with `IMPORT_SCHEME`) and `IDEMPOTENCY_KEY`; the answer carries `VERDICT_HEADER`.

Each call and each answer of the worker API carries CONTRACT_HEADER.

The headers that connect the log lines of both sides are in `bulk_import_wire.tracing`.

The SQS message is in `bulk_import_wire.message`, and the formats of the lines in S3 are in `bulk_import_wire.lines`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bulk_import_wire.json_object import JsonObject

CONTRACT_VERSION = 1
"""Version of the worker API that this code speaks.

Increase it only for a change that the other side cannot ignore. A new field with a default needs no new version,
because both sides ignore fields that they do not know.
"""

OLDEST_CONTRACT_VERSION = 1
"""Oldest version of a worker that the monolith still answers."""

CONTRACT_HEADER = "Bulk-Import-Contract"
"""Header of every call and every answer of the worker API: the sender's CONTRACT_VERSION.

An answer without it is not one of the monolith. It comes from a maintenance page, a login page or a proxy.
"""

WORKER_API_PATH = "/bulk-import/worker/"
"""Default path of `bulk_import.worker_urls`. A site that mounts them elsewhere configures both sides."""

MAX_ANSWER_BYTES = 64 * 1024
"""Length to which the body of an answer to a call is cut. The error message for one row is far shorter."""

IMPORT_SCHEME = "Import"
"""Authorization scheme of the create call: `Authorization: Import <token>`."""

IDEMPOTENCY_KEY = "Idempotency-Key"
"""Header of the create call, `<job id>:<row index>`. It identifies the row, so that a retry cannot create it twice."""

VERDICT_HEADER = "Bulk-Import-Row"
"""Header that the monolith's middleware sets on the response to a create call. Its value is a `RowVerdict`.

Only this header proves that a row was created. A 201 without it may come from a proxy, from a login page or from a
monolith without the middleware.
"""

LOAD_HEADER = "Bulk-Import-Load"
"""Header that the monolith's middleware sets on the response to a create call, unless REPORT_LOAD is off.

It says how much slower the monolith's other requests are than in quiet times: from "0.00" (not at all) to "1.00" (they
take twice as long or longer). While there are no other requests, it is "-1.00" (UNUSED).
"""

UNUSED = -1.0
"""Value in LOAD_HEADER while nobody else uses the shop."""

DEAD_LETTER = "dead_letter"
"""Code of the problem that is reported for the remaining rows when SQS gives up on a message (maxReceiveCount)."""

BUSY = frozenset({429, 503})
"""Statuses with which the monolith asks for a pause: the worker waits before it sends another row."""

SUBMITTER_DISABLED = "submitter_disabled"
"""Code of the 403 to every create call of a job whose submitter is disabled."""

PAUSED_TOO_LONG = "paused_too_long"
"""Code of the problem of the rows that were left when a job was paused for too long."""


class RowVerdict(StrEnum):
    """The result of one create call, as the ledger reports it."""

    CREATED = "created"  # the row and its ledger record are committed
    UPDATED = "updated"  # the same for a change of an object that existed
    UNCHANGED = "unchanged"  # the object already has the row's values, so only the ledger record is committed
    DELETED = "deleted"  # the object's deletion and the ledger record are committed
    REPLAYED = "replayed"  # an earlier call with the same key committed the row
    NOT_CREATED = "not-created"  # nothing was committed; the HTTP status says why
    REFUSED = "refused"  # nothing was committed, and the row itself is the reason, whatever the HTTP status
    WRONG_ENDPOINT = "wrong-endpoint"  # nothing was committed: the call reached another path than its create endpoint
    STALE = "stale"  # another worker has the lease of the chunk: stop at once
    CANCELLED = "cancelled"  # nothing was committed: the job is cancelled, so send no more rows
    PAUSED = "paused"  # nothing was committed: the job is paused until somebody resumes it, so release the chunk


class Outcome(StrEnum):
    """The final state of a row."""

    CREATED = "created"
    UPDATED = "updated"  # an object that existed was changed
    UNCHANGED = "unchanged"  # an object that existed already had the values of the row, so nothing was written
    DELETED = "deleted"
    REJECTED = "rejected"  # the endpoint refused the row
    FAILED = "failed"  # the endpoint gave no usable response, in spite of all retries
    UNPROCESSED = "unprocessed"  # the job was cancelled or the chunk is dead before the row was created


LEDGER_OUTCOMES = (Outcome.CREATED, Outcome.UPDATED, Outcome.UNCHANGED, Outcome.DELETED)
"""The outcomes of the rows that have a ledger record. The other rows are in the failures file."""


class PauseCode(StrEnum):
    """Why no row of a job can be created at present. The job is paused, and a worker retries it from time to time."""

    ENDPOINT_AWAY = "endpoint_away"  # it does not answer, or its answers have no verdict
    ENDPOINT_BUSY = "endpoint_busy"  # it answers 429 or 503 only
    FORBIDDEN = "forbidden"  # it answers 401 or 403: the submitter has no permission to create rows
    TOKEN_REJECTED = "token_rejected"  # noqa: S105 - something before the site's middleware answers 401 or 403
    WRONG_ENDPOINT = "wrong_endpoint"  # the calls reach another path of the site than the create endpoint
    WRONG_STATUS = "wrong_status"  # it answers a success that is not one of the target's `success_statuses`
    STAFF = "staff"  # a member of staff paused the job; it stays paused until staff resume it
    MOST_ROWS_FAILED = "most_rows_failed"  # the monolith paused the job; it stays paused until somebody resumes it


@dataclass(frozen=True, slots=True)
class ClaimRequest(JsonObject):
    """Body of `claim`: a worker asks for the right to work on a chunk."""

    message: dict[str, Any]  # the message of the chunk; the monolith refuses one that differs from its own
    claimant: str  # random; a claimant that asks again because a response was lost gets the same claim
    creates: bool = True  # False for a claim that only reports; it is also granted while the job is paused


def create_call_headers(token: str, token_header: str, language: str, host: str, host_header: str) -> dict[str, str]:
    """Return the headers of a create call, without IDEMPOTENCY_KEY. The arguments are fields of `Claim`."""
    headers = {
        token_header: f"{IMPORT_SCHEME} {token}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Language": language or "*",
    }
    if host:  # only the header changes: the connection still leads to the configured base URL
        headers[host_header] = host
    return headers


@dataclass(frozen=True, slots=True)
class Claim(JsonObject):
    """Response to `claim`: the lease of a chunk, and all that the worker needs to create its rows."""

    epoch: int  # the number of the lease; calls with an older epoch are refused as stale
    lease_seconds: int
    heartbeat_seconds: int  # interval between two heartbeats
    create_path: str  # path of the create endpoint on the worker's configured base URL; "" if no row is to be created
    token: str  # for `Authorization: Import <token>`; acts on behalf of the submitter
    language: str  # for Accept-Language, so that the submitter can read the endpoint's error messages
    created: list[list[int]]  # index ranges [first, last] of the rows that the ledger already records
    failures_key: str  # S3 key of the failures that an earlier delivery stored; "" if there are none
    concurrency: int  # maximum number of create calls in flight
    cancelled: bool  # create nothing; every row that is left is unprocessed
    # If not empty, create nothing and report the chunk as dead. It is the error of the rows that are left, with the
    # keys field, code and message.
    give_up: dict[str, Any] = field(default_factory=dict)
    token_header: str = "Authorization"  # noqa: S105 - name of the header for the token
    host: str = ""  # host to which the submitter sent the upload; "" if the create calls need none
    host_header: str = "Host"  # name of the header for `host`
    batch_rows: int = 1  # maximum number of rows in a batch call; with 1, send each row in a create call

    def host_headers(self) -> dict[str, str]:
        """Return the header for the host of the upload; none if the calls need none."""
        return {self.host_header: self.host} if self.host else {}

    def create_call_headers(self) -> dict[str, str]:
        """Return the headers of the create calls of this claim, without IDEMPOTENCY_KEY."""
        return create_call_headers(self.token, self.token_header, self.language, self.host, self.host_header)


@dataclass(frozen=True, slots=True)
class Heartbeat(JsonObject):
    """Body of `heartbeat`: the worker extends its lease."""

    epoch: int
    calls: dict[str, Any] = field(default_factory=dict)  # see `bulk_import_wire.calls`


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer(JsonObject):
    """Response to `heartbeat`: the lease lasts for `lease_seconds` from now."""

    lease_seconds: int
    cancelled: bool  # start no more rows, wait for the calls in flight, then finish
    paused: bool  # start no more rows, wait for the calls in flight, then release
    concurrency: int  # the new maximum number of create calls in flight


@dataclass(frozen=True, slots=True)
class Release(JsonObject):
    """Body of `release`: the worker ends its lease although some rows have no outcome yet."""

    epoch: int
    failures_key: str  # S3 key of the failures so far, whose rows are not sent again; "" if there are none
    pause: str  # a PauseCode; "" if the next delivery can continue at once
    retry_after_seconds: int  # the Retry-After of the endpoint; 0 if it sent none
    has_failed: bool = False  # whether this delivery failed; after several of them, the chunk is given up
    rows_tried: int = 0  # rows that got an outcome from the endpoint in this delivery
    rows_failed: int = 0  # those of them whose outcome is `failed`
    calls: dict[str, Any] = field(default_factory=dict)  # see `bulk_import_wire.calls`


@dataclass(frozen=True, slots=True)
class ReleaseAnswer(JsonObject):
    """Response to `release`."""

    retry_after_seconds: int  # the monolith refuses a claim before this time is over


@dataclass(frozen=True, slots=True)
class Finish(JsonObject):
    """Body of `finish` and of `dead`: every row of the chunk has an outcome, and the failures are stored.

    `dead` means that the chunk is given up, so the rows that were left are unprocessed. The number of
    created rows is not part of the report, because the monolith counts them in its own ledger.
    """

    epoch: int
    rejected: int
    failed: int
    unprocessed: int
    failures_key: str  # S3 key of the failures; "" if every row was created
    problems: list[dict[str, Any]] = field(default_factory=list)  # see `bulk_import_wire.problems`
    rows_tried: int = 0  # rows that got an outcome from the endpoint in this delivery
    rows_failed: int = 0  # those of them whose outcome is `failed`; `failed` also counts earlier deliveries
    calls: dict[str, Any] = field(default_factory=dict)  # see `bulk_import_wire.calls`
