"""What a batch call of a worker means for each of its rows, as far as the worker can tell from the answer."""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from bulk_import_wire.contract import VERDICT_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.monolith import Request, Response
    from tests.simulation.world import World

BATCH = "/rows"
"""End of the path of a batch call. Its purpose counts as `create`, so the faults of create calls affect it as well."""

MAY_HAVE_CALLED = {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
"""The statuses below 500 after which the worker counts a call of the first row that has no line."""


class Answered(NamedTuple):
    """A row that has been called: its key, `<job id>:<row index>`, and what its worker knows about the answer."""

    key: str
    verdict: str | None = None
    status: int = 0


def batch_keys(world: World, request: Request) -> list[str]:
    """Return the keys of the create calls that a batch call replaces."""
    chunk_id = request.path.split("/")[-2]
    ((job_id,),) = world.sql("SELECT job_id FROM bulk_import_importchunk WHERE id = ?", chunk_id.replace("-", ""))
    indexes = json.loads(request.content.split(b"\n", 1)[0])["indices"]
    return [f"{uuid.UUID(job_id)}:{index}" for index in indexes]


def called_rows(keys: list[str], status: int, content: bytes, *, is_cut: bool = False) -> Iterator[Answered]:
    """Yield each row that has been called, as far as the worker knows.

    The first row without a line was called as well, if the answer has no end or tells that the monolith is in trouble.
    """
    lines = content[: len(content) // 2].split(b"\n")[:-1] if is_cut else content.splitlines()
    documents = [json.loads(line) for line in lines if line.startswith(b'{"')] if status == HTTPStatus.OK else []
    answered = [document for document in documents if "index" in document]
    for key, document in zip(keys, answered, strict=False):
        yield Answered(key, document["headers"].get(VERDICT_HEADER), document["status"])
    has_ended = len(answered) < len(documents)
    if len(answered) < len(keys) and not has_ended and (status in MAY_HAVE_CALLED or status >= 500):
        yield Answered(keys[len(answered)])


def created_rows(world: World, request: Request, response: Response) -> Iterator[str]:
    """Yield the key of each row that a create call or a batch call has created."""
    if request.path.endswith(BATCH):
        for key, verdict, _status in called_rows(batch_keys(world, request), response.status, response.content):
            if verdict == "created":
                yield key
    elif response.headers.get("bulk-import-row") == "created":
        yield request.headers["idempotency-key"]
