"""The batch call: `POST {WORKER_API_PATH}chunks/{chunk_id}/rows`, with several rows of a chunk in one request.

It replaces several create calls: the monolith replays each row as a create call of its own. The bodies of all other
calls are JSON, but those of a batch call are JSON Lines (BATCH_CONTENT_TYPE):

- Request: a `BatchHead`, then the payload line of each row, unchanged and in the order of `BatchHead.indices`.
- Answer: a `BatchLine` for each row as soon as its outcome is known, in the same order, then BATCH_END. The monolith
  may stop before the last row, for example because a second is over or the job was cancelled. The rows that have no
  line before BATCH_END were not tried. Without BATCH_END, the connection was cut: the row after the last line may or
  may not have been created, so its call has to be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulk_import_wire.json_object import JsonObject

BATCH_CONTENT_TYPE = "application/x-ndjson"
"""Content type of the request and the answer of a batch call."""

MAX_BATCH_ROWS = 100
"""Largest `batch_rows` of a target. A batch ends after a second, and no endpoint creates more rows in this time."""

MAX_BATCH_BYTES = 512 * 1024
"""Longest body of a batch call. nginx refuses bodies above 1 MiB by default, and the monolith keeps it in memory.

A row that does not fit is sent in a create call.
"""

BATCH_END = {"end": True}
"""Last line of the answer to a batch call."""


@dataclass(frozen=True, slots=True)
class BatchHead(JsonObject):
    """First line of a batch call: the rows that follow."""

    epoch: int
    indices: list[int]


@dataclass(frozen=True, slots=True)
class BatchLine(JsonObject):
    """One line of the answer to a batch call: what a create call of the row would have been answered."""

    index: int
    status: int  # HTTP status
    headers: dict[str, str]  # VERDICT_HEADER, Retry-After and LOAD_HEADER, if the answer has them
    body: str = ""  # at most MAX_ANSWER_BYTES; "" for a row that is in the ledger
