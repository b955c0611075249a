"""Batch calls: how many rows one has, its body, and the lines of its answer. `bulk_import_wire.contract` explains them.

A batch carries the first call of several rows. A row that needs a retry gets it in a create call of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bulk_import_wire.batch import BATCH_END, MAX_BATCH_BYTES, BatchHead, BatchLine
from bulk_import_wire.contract import MAX_ANSWER_BYTES
from bulk_import_wire.json_object import MessageError
from lambda_worker.limiter import BATCH_WINDOW, MIN_WINDOW

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

    from lambda_worker.limiter import ConcurrencyLimiter
    from lambda_worker.row import Row

BATCH_SECONDS = 1.0
"""Work in a batch. The monolith ends a batch after about a second, and the rows that it did not reach come back."""

FEW_ROWS = BATCH_WINDOW * MIN_WINDOW
"""Rows of a batch while it is not known how long a row takes, and fewest rows of a batch if there is time for them.

After so many rows, the limiter knows it. The first answer of a batch also contains the round trip. It is the slowest of
its batch, and the limiter does not count the slowest two.
"""

MAX_HEAD_BYTES = 2048
"""Longest first line of a batch call, with 100 indexes of eight digits."""

MAX_LINE_BYTES = 8 * MAX_ANSWER_BYTES
"""Longest line of an answer. JSON needs up to six bytes for a character of the row's answer."""

HTTP_STATUSES = range(100, 1000)


@dataclass(slots=True)
class BatchSize:
    """Decides how many rows the next call of a chunk has. `most` is the limit of the target."""

    most: int = 1

    def take(self, left: deque[Row], limit: ConcurrencyLimiter) -> list[Row]:
        """Remove the rows of the next call from the front of `left`, which must not be empty, and return them.

        A batch is about BATCH_SECONDS of work. It leaves rows for the other calls in flight, and for one more, so that
        all of them end at about the same time and the limiter can try a higher limit. But it has at least a quarter of
        that work, because each call also waits for the network. While the shop's other requests are being slowed down,
        it is shorter: they get their turn more easily between two calls than within a batch.
        """
        seconds = BATCH_SECONDS * (1 - limit.shop_load)
        in_time = int(seconds / limit.call_seconds) if limit.call_seconds else FEW_ROWS
        share = max(math.ceil(len(left) / (limit.limit + 1)), FEW_ROWS, in_time // 4)
        rows = [left.popleft()]
        free_bytes = MAX_BATCH_BYTES - MAX_HEAD_BYTES - len(rows[0].body)
        while left and len(rows) < min(self.most, in_time, share) and not (rows[0].is_alone or left[0].is_alone):
            free_bytes -= len(left[0].body) + 1
            if free_bytes < 0:
                break
            rows.append(left.popleft())
        return rows

    def shrink(self, rows: int) -> None:
        """Send at most half as many rows from now on, because a batch with so many rows broke off."""
        self.most = max(1, min(self.most, rows // 2))

    def give_up(self) -> None:
        """Send each row in a create call from now on."""
        self.most = 1


def batch_body(epoch: int, rows: Sequence[Row]) -> bytes:
    """Return the body of a batch call."""
    head = BatchHead(epoch, [row.index for row in rows])
    return b"\n".join([json.dumps(head.to_dict()).encode(), *(row.body for row in rows), b""])


class BatchReader:
    """Reads the answer to a batch call of these rows, piece by piece."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.has_ended = False  # whether the last line has been read
        self._indexes = [row.index for row in rows]
        self._unread = b""

    def read(self, piece: bytes) -> list[BatchLine]:
        """Return the lines that are complete with this piece, one for each of the next rows.

        Raises ValueError if the answer does not follow the contract.
        """
        *lines, self._unread = (self._unread + piece).split(b"\n")
        if len(self._unread) > MAX_LINE_BYTES:
            raise MessageError("a line is too long")
        return [line for text in lines if (line := self._read_line(text))]

    def _read_line(self, text: bytes) -> BatchLine | None:
        try:
            document = json.loads(text)
        except RecursionError as error:
            raise MessageError("a line is nested too deeply") from error
        if document == BATCH_END:
            self.has_ended = True
            return None
        line = BatchLine.from_dict(document)
        if self.has_ended or not self._indexes or line.index != self._indexes.pop(0):
            raise MessageError("this is not the line of the next row")
        if line.status not in HTTP_STATUSES or not all(isinstance(value, str) for value in line.headers.values()):
            raise MessageError("this is not the answer to a create call")
        return line
