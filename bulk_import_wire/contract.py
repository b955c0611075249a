"""The wire contract between the monolith (`bulk_import`) and the worker (`lambda_worker`).

Standard library only, so that both sides can import it. Three kinds of things cross the wire:

- `ChunkMessage`: the SQS message. A link to a byte range of a payload; no row, credential or URL. Beside it, as a
  message attribute, the trace that the POST was part of (`message_attributes`);
- the worker API, `POST {WORKER_API_PATH}chunks/{chunk_id}/{claim|heartbeat|release|finish|dead}`, whose
  bodies are the other dataclasses here;
- the create call: the target's own endpoint, with `IMPORT_SCHEME` and `IDEMPOTENCY_KEY` headers in and
  the `VERDICT_HEADER` out.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self, get_args, get_origin, get_type_hints
from uuid import UUID

MESSAGE_VERSION = 1
MAX_MESSAGE_BYTES = 2048
"""A message has a handful of short fields; whatever is larger was not written by us."""

WORKER_API_PATH = "/bulk-import/worker/"
"""Where the monolith mounts `bulk_import.worker_urls`, unless both sides are configured otherwise."""

IMPORT_SCHEME = "Import"
"""Authorization scheme of the create call: `Authorization: Import <token>`."""

IDEMPOTENCY_KEY = "Idempotency-Key"
"""Header of the create call, `<job id>:<row index>`: names the row whatever becomes of the connection."""

VERDICT_HEADER = "Bulk-Import-Row"
"""Header of every answer that passed the monolith's ledger; its value is a `RowVerdict`. It is the only
proof of a creation: a 201 without it may come from a proxy, a login page or an unconfigured monolith."""


TRACEPARENT = "traceparent"
"""Message attribute, and header of every call of the worker: the W3C trace context of the POST, as it came."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(traceparent: str) -> str:
    """The trace's id, 32 hexadecimal digits; "" when that is no trace context (https://www.w3.org/TR/trace-context/)."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return match[1] if match else ""


def message_attributes(traceparent: str) -> dict[str, dict[str, str]]:
    """What SQS is to carry beside a message, for boto3; nothing when there is no trace."""
    return {TRACEPARENT: {"DataType": "String", "StringValue": traceparent}} if traceparent else {}


REQUEST_ID = "X-Request-ID"
"""Header of every call of the worker: the invocation's id, so that both sides' log lines can be put together."""

REFUSED_MARK = b"!"
"""First byte of a payload line whose row was refused before it was stored; no JSON begins with it."""


def refused_line(row: bytes, errors: list[dict[str, Any]]) -> bytes:
    """The payload line of a row that must not be sent to the endpoint: it goes straight to the failures."""
    return REFUSED_MARK + json.dumps(errors).encode() + b"\t" + row


def read_refused_line(line: bytes) -> tuple[bytes, list[dict[str, Any]]] | None:
    """Row and errors of a refused line; None for the line of any other row, which is the row itself."""
    if not line.startswith(REFUSED_MARK):
        return None
    errors, _, row = line.removeprefix(REFUSED_MARK).partition(b"\t")
    return row, json.loads(errors)


ROW = b', "row": '
"""Between what is known of a failure and the bytes of its row. Within a JSON string, its quotes would be escaped."""


def failure_line(known: dict[str, Any], row: bytes) -> bytes:
    """The line of a row that was not created, in the failures bucket: one JSON object, whose last member is the row.

    The row goes in as the bytes it is: a number must not change on its way through a float.
    """
    return json.dumps(known, ensure_ascii=False).encode()[:-1] + ROW + row + b"}\n"


def read_failure_line(line: bytes) -> tuple[dict[str, Any], bytes]:
    """What `failure_line` was given, with or without the newline at the end. Raises ValueError."""
    known, _, row = line.removesuffix(b"\n").removesuffix(b"}").partition(ROW)
    return json.loads(known + b"}"), row


class RowVerdict(StrEnum):
    """What the ledger says of one create call."""

    CREATED = "created"  # the row and its ledger record are committed
    REPLAYED = "replayed"  # they had been committed by an earlier call with the same key
    NOT_CREATED = "not-created"  # nothing was kept; the HTTP status tells why
    REFUSED = "refused"  # nothing was kept, and this very row is to blame, whatever the status
    STALE = "stale"  # this worker no longer holds the chunk: stop at once
    CANCELLED = "cancelled"  # nothing was kept: the job was cancelled, take no further row


class Outcome(StrEnum):
    """What became of a row."""

    CREATED = "created"
    REJECTED = "rejected"  # the endpoint said no
    FAILED = "failed"  # no answer worth having after all retries
    UNPROCESSED = "unprocessed"  # cancelled, or never reached


class PauseCode(StrEnum):
    """Why no row of a job can be created now. The job is paused, and tried again from time to time."""

    ENDPOINT_AWAY = "endpoint_away"  # it does not answer, or not for the ledger
    ENDPOINT_BUSY = "endpoint_busy"  # it answers 429 or 503, and nothing else
    FORBIDDEN = "forbidden"  # it answers 401 or 403: the submitter may not create, or not any more
    STAFF = "staff"  # a member of staff said so, and says when to go on


DEAD_LETTER = "dead_letter"
"""Code of the problem of rows whose message ran out of deliveries."""


class MessageError(ValueError):
    """The text is no message of this contract. Do not read or call anything on its behalf."""


@dataclass(frozen=True, slots=True)
class _Body:
    """A flat JSON object with exactly these fields."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Build from decoded JSON; raises MessageError when a field is missing, unknown or of another type.

        The error names our own fields only, never what the data held.
        """
        if not isinstance(data, dict):
            raise MessageError(f"expected a JSON object, got {type(data).__name__}")
        types = get_type_hints(cls)
        names = {f.name for f in fields(cls)}
        if data.keys() != names:
            missing = ", ".join(sorted(names - data.keys())) or "none"
            raise MessageError(f"fields missing: {missing}; unknown: {len(data.keys() - names)}")
        for name, value in data.items():
            if not _is(types[name], value):
                raise MessageError(f"{name}: expected {types[name]}, got {type(value).__name__}")
        return cls(**data)


def _is(expected: Any, value: object) -> bool:
    """Whether decoded JSON is of exactly this type (a bool is no int), also within lists."""
    if get_origin(expected) is list:
        (item_type,) = get_args(expected)
        return isinstance(value, list) and all(_is(item_type, item) for item in value)
    return type(value) is (get_origin(expected) or expected)


@dataclass(frozen=True, slots=True)
class ChunkMessage(_Body):
    """One SQS message: where the rows of one chunk lie.

    The chunk is `byte_count` bytes of the object `bucket`/`key` from `first_byte`, as long as its ETag is
    `etag`; `row_count` lines, the first of which is row `first_index` of the job.
    """

    job_id: str  # a UUID, as is the chunk's: both become part of paths
    chunk_id: str
    bucket: str
    key: str
    etag: str
    first_byte: int
    byte_count: int
    first_index: int
    row_count: int
    version: int = MESSAGE_VERSION

    def encode(self) -> str:
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a message body; raises MessageError, whose text never repeats what the message held."""
        if len(text) > MAX_MESSAGE_BYTES:
            raise MessageError(f"longer than {MAX_MESSAGE_BYTES} bytes")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MessageError("not JSON") from error
        if isinstance(data, dict) and data.get("version") != MESSAGE_VERSION:
            raise MessageError(f"unknown version (this worker reads version {MESSAGE_VERSION})")
        message = cls.from_dict(data)
        if min(message.first_byte, message.first_index) < 0 or min(message.byte_count, message.row_count) < 1:
            raise MessageError("a count or offset is out of range")
        if not (_is_uuid(message.job_id) and _is_uuid(message.chunk_id)):
            raise MessageError("an id is no UUID")
        return message


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class ClaimRequest(_Body):
    """Body of `claim`."""

    message: dict[str, Any]  # the chunk's own: a message that differs is not the monolith's
    claimant: str  # random; whoever asks again because an answer was lost gets the same claim
    creates: bool = True  # False for a claim that only reports; it need not wait until a pause is over


@dataclass(frozen=True, slots=True)
class Claim(_Body):
    """Answer to `claim`: the right to work on a chunk."""

    epoch: int
    lease_seconds: int
    heartbeat_seconds: int
    create_path: str  # path on the worker's configured base URL
    token: str  # for `Authorization: Import <token>`; acts as the submitter
    language: str  # for Accept-Language, so that refusals can be read by the submitter
    created: list[list[int]]  # index ranges [first, last] that the ledger already holds
    failures_key: str  # what an earlier delivery of the chunk stored; "" for nothing
    concurrency: int  # the most calls in flight
    cancelled: bool  # create nothing; every row that is left is unprocessed


@dataclass(frozen=True, slots=True)
class Heartbeat(_Body):
    """Body of `heartbeat`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer(_Body):
    """Answer to `heartbeat`: the lease is good for `lease_seconds` from now."""

    lease_seconds: int
    cancelled: bool  # take no further row, let the calls in flight settle, then finish
    paused: bool  # take no further row, let the calls in flight settle, then release
    concurrency: int


@dataclass(frozen=True, slots=True)
class Release(_Body):
    """Body of `release`: this worker stops, rows are left, and the lease is over."""

    epoch: int
    failures_key: str  # of the rows that need not be tried again; "" for none
    pause: str  # a PauseCode; "" when the next delivery can go on at once
    retry_after_seconds: int  # what the endpoint asked for; 0 for nothing


@dataclass(frozen=True, slots=True)
class ReleaseAnswer(_Body):
    """Answer to `release`."""

    retry_after_seconds: int  # a claim is of no use before
    is_too_long: bool  # the job has been paused for so long that deliveries count again, and end


@dataclass(frozen=True, slots=True)
class Finish(_Body):
    """Body of `finish`, and of `dead`: every row of the chunk has an outcome, and the failures are stored.

    `dead` says that the message ran out of deliveries; the rows that were left are unprocessed.

    How many were created is not said: the monolith counts its own ledger.
    """

    epoch: int
    rejected: int
    failed: int
    unprocessed: int
    failures_key: str  # "" when every row was created
    problems: list[dict[str, Any]] = field(default_factory=list)  # see `bulk_import_wire.problems`
