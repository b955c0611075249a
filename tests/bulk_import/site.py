"""A client and a worker that carries out its jobs in the same process, row by row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.test import Client

from bulk_import_wire.contract import VERDICT_HEADER
from tests.bulk_import.conftest import Aws, call, claim, finish, post_rows

if TYPE_CHECKING:
    from rest_framework.test import APIClient

DONE = {"created", "updated", "unchanged", "deleted"}


@dataclass
class Site:
    """A client, and the worker that carries out its jobs."""

    client: APIClient
    worker: APIClient
    aws: Aws

    def submit(self, rows: list[dict[str, Any]], path: str = "/products/bulk") -> str:
        answer = post_rows(self.client, rows, path)
        assert answer.status_code == 202, answer.content
        return str(answer.json()["id"])

    def post(self, job_id: str, action: str) -> Any:
        """Start the run or the undo of a job."""
        return self.client.post(f"/products/bulk/{job_id}/{action}")

    def carry_out(self) -> list[tuple[int, str, str]]:
        """Send every row of the jobs that wait, and end the jobs. Return the status, verdict and error of each row."""
        outcomes = []
        for message in self.aws.messages():
            claimed = claim(self.worker, message)
            content = self.aws.payload(message.key)[message.first_byte : message.first_byte + message.byte_count]
            refused = 0
            for index, body in enumerate(content.splitlines(), message.first_index):
                if body.startswith(b"!"):  # a row that the monolith has refused already
                    outcomes.append((0, "refused", json.loads(body[1:].split(b"\t")[0])[0]["code"]))
                    refused += 1
                    continue
                headers = {"Authorization": f"Import {claimed.token}", "Idempotency-Key": f"{message.job_id}:{index}"}
                answer: Any = Client(raise_request_exception=False).generic(
                    "POST", "/products/", body, content_type="application/json", headers=headers
                )
                outcomes.append(outcome(answer))
                refused += answer[VERDICT_HEADER] not in DONE
            report = finish(claimed.epoch, rejected=refused)
            assert call(self.worker, "finish", message, report).status_code == 200
        return outcomes

    def document(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/products/bulk/{job_id}").json()
        return found


def outcome(answer: Any) -> tuple[int, str, str]:
    """Return the status, the verdict, and the code of the error."""
    document = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}  # a 204, or Django's HTML
    error = (document.get("errors") or [document])[0]
    return answer.status_code, answer[VERDICT_HEADER], error.get("code", "")
