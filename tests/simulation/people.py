"""The people of a run: users who send imports and act on them, and staff."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from django.contrib.auth.models import User

from bulk_import import operations
from bulk_import.models import ImportJob
from tests.simulation.monolith import Request, Response
from tests.simulation.network import basic_authentication
from tests.simulation.virtual_time import clock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.simulation.plan import Job
    from tests.simulation.world import World

TIMEOUT_SECONDS = 20.0
"""How long a user's client waits for an answer."""

EXPIRED = 410
"""Status for a job whose data has expired."""

MAX_TRIES = 25
"""How often a user sends an import or an action before giving up: for more than an hour, see `_wait_seconds`."""


class People:
    """Everybody who uses the site. Each of them acts in tasks of their own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.tasks: list[asyncio.Task[Any]] = []
        self.refused: list[str] = []  # answers that no user should get
        self.accepted: dict[int, str] = {}  # the job that the API named, by number of the plan's job
        self.changed_users: set[str] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self._world.loop.create_task(work, context=self._world.context.copy()))

    async def submit(self, job: Job) -> None:
        """Send an import, and repeat it with the same Idempotency-Key until it is accepted."""
        await self._world.sleep_until(job.at)
        content = b"[" + b",".join(row.encoded() for row in job.rows) + b"]"
        headers = {"content-type": "application/json", "idempotency-key": job.key}
        options = f"?mode={job.mode}&rehearse={str(job.rehearse).lower()}"
        request = Request("POST", f"/{job.target}/bulk{options}", basic_authentication(job.user) | headers, content)
        if answer := await self._send("submit", request, {202}):
            self.accepted[job.number] = json.loads(answer.content)["id"]

    async def act_as_user(self, number: int, method: str, suffix: str, *expected: int) -> None:
        """Let the submitter of a job use the API, until it answers. `expected` are further statuses that are right."""
        job = self._world.plan.jobs[number]
        path = f"/{job.target}/bulk/{self.job_id(number)}{suffix}"
        await self._send(
            "action", Request(method, path, basic_authentication(job.user)), {200, 202, EXPIRED, *expected}
        )

    async def _send(self, point: str, request: Request, expected: set[int]) -> Response | None:
        """Send a request until it succeeds. Return the answer, or None if the user may not do this or gives up."""
        for tried in range(MAX_TRIES):
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    response, is_cut = await self._world.network.send(point, request)
            except (httpx.TransportError, TimeoutError):
                response, is_cut = Response(0, {}, b""), True
            is_ours = not is_cut and response.headers.get("content-type") == "application/json"
            if is_ours and response.status in expected:
                return response
            if is_ours and response.status < 500 and response.status not in {401, 403, 429}:
                self.refused.append(f"{request.method} {request.path}: {response.status} {response.content[:200]!r}")
                return None
            is_forbidden = is_ours and response.status in {401, 403}
            if is_forbidden and clock.now > self._world.plan.faults_end_at:  # nobody will give the rights back
                return None
            await asyncio.sleep(self._wait_seconds(tried))
        return None

    def _wait_seconds(self, tried: int) -> float:
        """Return how long a user waits after so many tries. The waits grow, so that a long outage takes few tries."""
        return min(self._world.random.uniform(0.5, 5) * 1.5**tried, 300.0)

    async def act_as_staff(self, action: str, number: int) -> None:
        """Let staff pause, resume or cancel a job in the admin."""

        def act() -> None:
            job_id = self.job_id(number)
            job = ImportJob.objects.get(pk=job_id and UUID(job_id))
            getattr(operations, action)(job, User.objects.get(username="staff"))

        self._world.run_in_monolith(f"staff {action} {number}", act)

    def set_concurrency(self, number: int, limit: int) -> None:
        job_id = self.job_id(number)
        self._world.run_in_monolith(
            f"concurrency {number} {limit}", lambda: ImportJob.objects.filter(pk=job_id).update(concurrency=limit)
        )

    def change_user(self, username: str, kind: str, *, undo: bool) -> None:
        """Withdraw the permissions of a user, disable or delete the user. With `undo`, give the rights back."""

        def change() -> None:
            users = User.objects.filter(username=username)
            if kind == "deleted" and not undo:
                users.delete()
            elif kind == "active":
                users.update(is_active=undo)
            elif kind == "permission":
                users.update(is_superuser=undo)

        self.changed_users.add(username)
        self._world.run_in_monolith(f"user {username} {kind} {undo}", change)

    def job_id(self, number: int) -> str | None:
        """Return the ID of a job of the plan, or None if it does not exist yet."""
        key = self._world.plan.jobs[number].key
        found = self._world.sql("SELECT id FROM bulk_import_importjob WHERE idempotency_key = ?", key)
        return str(found[0][0]) if found else None
