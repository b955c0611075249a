"""A stale worker: it claims a chunk and sleeps until another worker has it. The monolith must refuse its calls."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx

from bulk_import_wire.contract import IDEMPOTENCY_KEY, IMPORT_SCHEME, Claim, ClaimRequest, Finish, Heartbeat, Release
from bulk_import_wire.message import ChunkMessage
from settings.known_secrets import WORKER_SECRET

if TYPE_CHECKING:
    import psycopg

    from tests.chaos.plan import Row
    from tests.chaos.shop import Shop

MAX_SLEEP_SECONDS = 30.0
PAUSE_SECONDS = 0.1


def chunk_message(sql: psycopg.Connection[Any], chunk_id: UUID) -> ChunkMessage:
    """Return the message of a chunk, as the monolith sends it."""
    row = sql.execute(
        "SELECT job_id, payload_bucket, payload_key, payload_etag, first_byte, byte_count, first_index, row_count"
        " FROM bulk_import_importchunk AS chunk JOIN bulk_import_importjob AS job ON job.id = job_id"
        " WHERE chunk.id = %s",
        [chunk_id],
    ).fetchone()
    assert row
    job_id, bucket, key, etag, first_byte, byte_count, first_index, row_count = row
    return ChunkMessage(
        job_id=str(job_id),
        chunk_id=str(chunk_id),
        bucket=bucket,
        key=key,
        etag=etag,
        first_byte=first_byte,
        byte_count=byte_count,
        first_index=first_index,
        row_count=row_count,
    )


@dataclass(slots=True)
class StaleWorker:
    """A claimed chunk. Calls go to the monolith directly, without the proxy, so that every answer is its own."""

    shop: Shop
    chunk_id: UUID
    message: ChunkMessage
    claim: Claim

    @classmethod
    def claim_one(cls, shop: Shop, job_ids: list[UUID], which: int) -> StaleWorker | None:
        """Claim a chunk of these jobs whose message was sent and that has no lease. Returns None if that fails."""
        chunks = shop.sql.execute(
            "SELECT id FROM bulk_import_importchunk WHERE job_id = ANY(%s) AND status IN ('queued', 'processing')"
            " AND (lease_expires_at IS NULL OR lease_expires_at < now()) ORDER BY job_id, number",
            [job_ids],
        ).fetchall()
        if not chunks:
            return None
        (chunk_id,) = chunks[which % len(chunks)]
        message = chunk_message(shop.sql, chunk_id)
        request = ClaimRequest(message=message.to_dict(), claimant=str(uuid4()))
        answer = _post_worker_api(shop, chunk_id, "claim", request.to_dict())
        if answer is None or answer.status_code != httpx.codes.OK:
            return None
        return cls(shop, chunk_id, message, Claim.from_dict(answer.json()))

    def sleep(self) -> bool:
        """Sleep until another worker has claimed the chunk. Returns False if that does not happen in time."""
        give_up_at = time.monotonic() + MAX_SLEEP_SECONDS
        while time.monotonic() < give_up_at:
            if self._epoch() > self.claim.epoch:
                return True
            time.sleep(PAUSE_SECONDS)
        return False

    def send_stale_calls(self, row: Row, index: int) -> list[str]:
        """Make every call of a worker. Returns a sentence for each call that the monolith accepted."""
        finish = Finish(
            epoch=self.claim.epoch, rejected=0, failed=self.message.row_count, unprocessed=0, failures_key=""
        )
        release = Release(epoch=self.claim.epoch, failures_key="", pause="", retry_after_seconds=0)
        bodies = {
            "heartbeat": Heartbeat(epoch=self.claim.epoch).to_dict(),
            "release": release.to_dict(),
            "finish": finish.to_dict(),
            "dead": finish.to_dict(),
        }
        answers = {verb: _post_worker_api(self.shop, self.chunk_id, verb, body) for verb, body in bodies.items()}
        headers = {
            "Authorization": f"{IMPORT_SCHEME} {self.claim.token}",
            IDEMPOTENCY_KEY: f"{self.message.job_id}:{index}",
        }
        answers["create"] = _post(f"{self.shop.url}{self.claim.create_path}", headers, row.body)
        return [
            f"{verb} of epoch {self.claim.epoch} was answered {answer.status_code} while chunk {self.chunk_id}"
            f" was in epoch {self._epoch()}"
            for verb, answer in answers.items()
            if answer is not None and answer.is_success
        ]

    def _epoch(self) -> int:
        row = self.shop.sql.execute(
            "SELECT epoch FROM bulk_import_importchunk WHERE id = %s", [self.chunk_id]
        ).fetchone()
        assert row
        epoch: int = row[0]
        return epoch


def _post_worker_api(shop: Shop, chunk_id: UUID, verb: str, body: dict[str, Any]) -> httpx.Response | None:
    url = f"{shop.url}/bulk-import/worker/chunks/{chunk_id}/{verb}"
    return _post(url, {"Authorization": f"Bearer {WORKER_SECRET}"}, body)


def _post(url: str, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response | None:
    """POST JSON, and retry while the monolith's processes are killed. Returns None if there is no answer."""
    for _ in range(20):
        try:
            return httpx.post(url, headers=headers, json=body, timeout=30, trust_env=False)
        except httpx.TransportError:
            time.sleep(PAUSE_SECONDS)
    return None
