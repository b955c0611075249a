"""A member of staff who pauses jobs and resumes them, and the check that nothing was created in between."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx

from tests.chaos.shop import USER

if TYPE_CHECKING:
    from uuid import UUID

    from tests.chaos.shop import Shop

LOGIN = "/admin/login/"
IN_FLIGHT = timedelta(seconds=0.5)
"""How long after the pause a create call that began before it may still write its ledger record."""

RETRY_SECONDS = 0.2
GIVE_UP_AFTER_SECONDS = 30.0


@dataclass
class Staff:
    """Uses the pages of the admin. Calls go to the monolith directly; while its processes are killed, they repeat."""

    shop: Shop
    pauses: list[tuple[UUID, datetime, datetime]] = field(default_factory=list)  # job, begin and end
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def pause_for(self, job_id: UUID, seconds: float) -> bool:
        """Pause a job, wait, and resume it. Returns False if the job has ended before that.

        One call at a time, so that no other call resumes the job meanwhile.
        """
        with self._turn:
            self._act(job_id, "pause")
            if not self._is_paused(job_id):
                return False
            began_at = datetime.now(UTC)
            time.sleep(seconds)
            self.pauses.append((job_id, began_at, datetime.now(UTC)))
            while self._is_paused(job_id):
                self._act(job_id, "resume")
        return True

    def find_creates_during_pauses(self) -> list[str]:
        """Return a sentence for each row that was created by a call that began while its job was paused."""
        found = []
        for job_id, began_at, ended_at in self.pauses:
            rows = self.shop.sql.execute(
                'SELECT "index", created_at FROM bulk_import_importedrow'
                " WHERE job_id = %s AND created_at > %s AND created_at < %s",
                [job_id, began_at + IN_FLIGHT, ended_at],
            ).fetchall()
            found += [f"{job_id}:{index} was created while staff paused the job" for index, _at in rows]
        return found

    def _is_paused(self, job_id: UUID) -> bool:
        row = self.shop.sql.execute(
            "SELECT status = 'paused' AND pause_code = 'staff' FROM bulk_import_importjob WHERE id = %s", [job_id]
        ).fetchone()
        return bool(row and row[0])

    def _act(self, job_id: UUID, name: str) -> None:
        """Sign in and press the button of an action. Raises RuntimeError if the admin does not answer."""
        give_up_at = time.monotonic() + GIVE_UP_AFTER_SECONDS
        while time.monotonic() < give_up_at:
            try:
                with httpx.Client(base_url=self.shop.url, timeout=20, trust_env=False) as http:
                    http.get(LOGIN)
                    _post(http, LOGIN, {"username": USER[0], "password": USER[1], "next": "/admin/"})
                    _post(http, f"/admin/bulk_import/importjob/{job_id}/do/{name}/", {})
            except httpx.HTTPError:
                time.sleep(RETRY_SECONDS)
            else:
                return
        raise RuntimeError(f"The admin did not {name} {job_id}.")


def _post(http: httpx.Client, path: str, form: dict[str, str]) -> None:
    """Send a form. Raises httpx.HTTPStatusError unless the answer is a redirect, as after each form of the admin."""
    token = http.cookies.get("csrftoken", "")
    answer = http.post(path, data={"csrfmiddlewaretoken": token, **form})
    if not answer.is_redirect:
        raise httpx.HTTPStatusError(f"{path}: {answer.status_code}", request=answer.request, response=answer)
