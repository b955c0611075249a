"""The SQS message of a chunk. It points to a byte range of a payload and contains no row, credential or URL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from bulk_import_wire.json_object import JsonObject, MessageError
from bulk_import_wire.tracing import TRACEPARENT

MESSAGE_VERSION = 1
"""Version of the message format. A worker refuses every other version."""

MAX_MESSAGE_BYTES = 2048
"""Maximum length of a message. Our messages have a few short fields, so a longer one cannot be ours."""

FIRST_RETRY_SECONDS = 10
"""Wait after the first failed delivery of a chunk. Each further failed delivery makes it four times as long."""

MAX_RETRY_SECONDS = 600
"""Longest wait between two deliveries of a chunk."""


def retry_seconds(failures: int) -> int:
    """Return how many seconds a chunk waits after so many failed deliveries: 10, 40, 160, and at most 600."""
    return int(min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 4 ** (failures - 1)))


def message_attributes(traceparent: str) -> dict[str, dict[str, str]]:
    """Return the attributes of an SQS message in boto3's format. There are none if `traceparent` is empty."""
    return {TRACEPARENT: {"DataType": "String", "StringValue": traceparent}} if traceparent else {}


class UnknownVersion(MessageError):
    """The message has a version that this worker cannot read. A worker of the other release may be able to."""


@dataclass(frozen=True, slots=True)
class ChunkMessage(JsonObject):
    """One SQS message. It says where the rows of one chunk are stored.

    The chunk is the range of `byte_count` bytes from offset `first_byte` of the object `key` in `bucket`, as long as
    the object's ETag is `etag`. The range has `row_count` lines. The first one is row `first_index` of the job.
    """

    job_id: str  # a UUID, like chunk_id; both become part of paths
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
        """Return the body of the SQS message."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read the body of an SQS message.

        Raises MessageError, and UnknownVersion for another version. Their texts never repeat a part of the body.
        """
        if len(text) > MAX_MESSAGE_BYTES:
            raise MessageError(f"longer than {MAX_MESSAGE_BYTES} bytes")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MessageError("not JSON") from error
        # The version comes first: the fields of another version may differ, and "unknown version" helps more.
        if isinstance(data, dict) and data.get("version") != MESSAGE_VERSION:
            raise UnknownVersion(f"unknown version (this worker reads version {MESSAGE_VERSION})")
        message = cls.from_dict(data)
        if min(message.first_byte, message.first_index) < 0 or min(message.byte_count, message.row_count) < 1:
            raise MessageError("a count or offset is out of range")
        if not (_is_canonical_uuid(message.job_id) and _is_canonical_uuid(message.chunk_id)):
            raise MessageError("an ID is not a UUID")
        return message


def _is_canonical_uuid(text: str) -> bool:
    """Return whether the text is a UUID in its usual spelling. `UUID()` also accepts braces and a "urn:" prefix."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
