"""The code in docs/webhooks.md accepts real webhooks and rejects everything else."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import.models import EventKind, ImportJob
from bulk_import.outbox.webhooks import send_due_webhooks
from tests.bulk_import.outbox.webhook_receiver import OTHER_SECRET, SECRET, Delivery, use_receiver, webhook_receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django import Settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]

PROJECT = Path(__file__).resolve().parents[3]
GUIDE = (PROJECT / "docs" / "webhooks.md").read_text()
NODE = shutil.which("node")

CALLER = """
import { readFileSync } from "node:fs";
const { isGenuine } = await import(process.argv[2]);
const { secret, headers, body, now } = JSON.parse(readFileSync(0));
console.log(isGenuine(secret, headers, Buffer.from(body, "base64"), now));
"""


def snippet(language: str, name: str) -> str:
    """The block of code that defines this function."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if f"function {name}(" in block or f"def {name}(" in block]
    return str(block)


def python_verdict(secret: str, headers: dict[str, str], body: bytes, now: float, _folder: Path) -> bool:
    names: dict[str, Any] = {}
    exec(snippet("python", "is_genuine"), names)  # noqa: S102 - our own documentation
    return bool(names["is_genuine"](secret, headers, body, now))


def node_verdict(secret: str, headers: dict[str, str], body: bytes, now: float, folder: Path) -> bool:
    (folder / "snippet.mjs").write_text(snippet("js", "isGenuine"))
    (folder / "caller.mjs").write_text(CALLER)
    given = {"secret": secret, "headers": headers, "body": base64.b64encode(body).decode(), "now": now}
    command = [str(NODE), str(folder / "caller.mjs"), str(folder / "snippet.mjs")]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return bool(json.loads(done.stdout))


@pytest.fixture(
    params=[
        python_verdict,
        pytest.param(node_verdict, marks=pytest.mark.skipif(NODE is None, reason="Needs node: apt-get install nodejs")),
    ]
)
def verdict(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def delivery(settings: Settings) -> Delivery:
    """A webhook with characters outside of ASCII, signed with the new and the old secret."""
    with webhook_receiver() as receiver:
        use_receiver(settings, receiver.url, OTHER_SECRET, SECRET)
        job = ImportJob.objects.create(target="products", rows=4, request_sha256=b"", language="pt-br")
        job.record(EventKind.RESUMED)
        send_due_webhooks()
    return receiver.deliveries[0]


@pytest.mark.parametrize(
    ("case", "is_genuine"),
    [
        ("as sent", True),
        ("with the other secret", True),
        ("a little later", True),
        ("changed", False),
        ("with another id", False),
        ("with an unknown secret", False),
        ("too old", False),
        ("from the future", False),
        ("without a time", False),
        ("with a malformed signature", False),
        ("without a signature", False),
    ],
)
def test_the_snippet_accepts_only_a_genuine_and_recent_webhook(
    case: str, is_genuine: bool, delivery: Delivery, verdict: Callable[..., bool], tmp_path: Path
) -> None:
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    secret, body, sent_at = SECRET, delivery.body, int(headers["webhook-timestamp"])
    assert not body.isascii()
    later = {"a little later": 299, "too old": 301, "from the future": -301}.get(case, 0)
    if case == "with the other secret":
        secret = OTHER_SECRET
    elif case == "with an unknown secret":
        secret = "whsec_" + base64.b64encode(b"a secret that we never configured").decode()
    elif case == "changed":
        body = body.replace(b'"rows":4', b'"rows":5')
        assert body != delivery.body
    elif case == "with another id":
        headers["webhook-id"] = headers["webhook-id"][::-1]
    elif case == "without a time":
        headers["webhook-timestamp"] = "now"
    elif case == "with a malformed signature":
        headers["webhook-signature"] = "v1 v1, v2,xxx v1,é"
    elif case == "without a signature":
        del headers["webhook-signature"]

    assert verdict(secret, headers, body, sent_at + later, tmp_path) is is_genuine
