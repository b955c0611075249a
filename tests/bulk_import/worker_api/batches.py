"""Helpers for tests of batch calls: send the rows of a chunk in one request, as a worker does."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bulk_import_wire.batch import BATCH_CONTENT_TYPE, BATCH_END, BatchHead, BatchLine
from bulk_import_wire.contract import VERDICT_HEADER
from tests.bulk_import.conftest import claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rest_framework.test import APIClient

    from bulk_import_wire.contract import Claim
    from bulk_import_wire.message import ChunkMessage
    from tests.bulk_import.conftest import Aws


def with_batches(setting: dict[str, Any], rows: int = 20) -> dict[str, Any]:
    """Return BULK_IMPORT with batches for all targets."""
    targets = {name: {**target, "batch_rows": rows} for name, target in setting["TARGETS"].items()}
    return {**setting, "TARGETS": targets}


@dataclass(frozen=True)
class Chunk:
    """The rows of a chunk that a worker has claimed."""

    worker: APIClient
    message: ChunkMessage
    rows: list[tuple[int, bytes]] = field(repr=False)
    claim: Claim = field(repr=False)

    @property
    def epoch(self) -> int:
        return self.claim.epoch

    @property
    def path(self) -> str:
        return f"/bulk-import/worker/chunks/{self.message.chunk_id}/rows"

    @property
    def body(self) -> bytes:
        head = BatchHead(self.epoch, [index for index, _row in self.rows]).to_dict()
        return b"\n".join([json.dumps(head).encode(), *(row for _index, row in self.rows)])

    def send(self, body: bytes | None = None, **extra: Any) -> Any:
        worker: Any = self.worker  # its annotations do not allow bytes
        body = self.body if body is None else body
        return worker.generic("POST", self.path, body, content_type=BATCH_CONTENT_TYPE, **extra)

    def verdicts(self) -> list[str]:
        """Send the rows, and return the verdict of each line."""
        return [line.headers[VERDICT_HEADER] for line in lines_of(self.send())]


def claimed(worker: APIClient, aws: Aws) -> list[Chunk]:
    """Claim the chunks whose messages are on the queue."""
    return [Chunk(worker, message, [*rows_to_send(aws, message)], claim(worker, message)) for message in aws.messages()]


def lines_of(answer: Any) -> list[BatchLine]:
    """Return the lines of a complete answer."""
    assert (answer.status_code, answer["Content-Type"]) == (200, BATCH_CONTENT_TYPE), answer.content
    return read_lines(answer.streaming_content)


def read_lines(pieces: Iterable[bytes]) -> list[BatchLine]:
    *lines, end = map(json.loads, b"".join(pieces).splitlines())
    assert end == BATCH_END
    return [BatchLine.from_dict(line) for line in lines]


def rows_to_send(aws: Aws, message: ChunkMessage) -> Iterator[tuple[int, bytes]]:
    """Yield the index and the stored line of each row that was not refused."""
    stored = aws.payload(message.key)[message.first_byte : message.first_byte + message.byte_count]
    for index, row in enumerate(stored.splitlines(), message.first_index):
        if not row.startswith(b"!"):
            yield index, row
