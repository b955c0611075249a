"""The snippets of docs/webhooks.md take what was really sent, and nothing else."""

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
from tests.bulk_import.outbox.webhook_receiver import OTHER_SECRET, SECRET, Delivery, webhook_receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)

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
    """The block of code that defines this."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if f"function {name}(" in block or f"def {name}(" in block]
    return str(block)


def python_judges(secret: str, headers: dict[str, str], body: bytes, now: float, _folder: Path) -> bool:
    names: dict[str, Any] = {}
    exec(snippet("python", "is_genuine"), names)  # noqa: S102 - our own documentation
    return bool(names["is_genuine"](secret, headers, body, now))


def node_judges(secret: str, headers: dict[str, str], body: bytes, now: float, folder: Path) -> bool:
    (folder / "snippet.mjs").write_text(snippet("js", "isGenuine"))
    (folder / "caller.mjs").write_text(CALLER)
    given = {"secret": secret, "headers": headers, "body": base64.b64encode(body).decode(), "now": now}
    command = [str(NODE), str(folder / "caller.mjs"), str(folder / "snippet.mjs")]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return bool(json.loads(done.stdout))


@pytest.fixture(
    params=[
        python_judges,
        pytest.param(node_judges, marks=pytest.mark.skipif(NODE is None, reason="Needs node: apt-get install nodejs")),
    ]
)
def judges(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def delivery(settings: Settings) -> Delivery:
    """A webhook with letters beyond ASCII, signed with the new secret and the old one."""
    with webhook_receiver() as receiver:
        listening = {"WEBHOOK_URL": receiver.url, "WEBHOOK_SECRETS": [OTHER_SECRET, SECRET]}
        settings.BULK_IMPORT = {**settings.BULK_IMPORT, **listening}
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
        ("of another id", False),
        ("with a secret that is none", False),
        ("an old one", False),
        ("from the future", False),
        ("without a time", False),
        ("signed badly", False),
        ("not signed", False),
    ],
)
def test_the_snippet_takes_what_was_sent_and_nothing_else(
    case: str, is_genuine: bool, delivery: Delivery, judges: Callable[..., bool], tmp_path: Path
) -> None:
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    secret, body, sent_at = SECRET, delivery.body, int(headers["webhook-timestamp"])
    assert not body.isascii()
    later = {"a little later": 299, "an old one": 301, "from the future": -301}.get(case, 0)
    if case == "with the other secret":
        secret = OTHER_SECRET
    elif case == "with a secret that is none":
        secret = "whsec_" + base64.b64encode(b"a secret that nobody ever knew").decode()
    elif case == "changed":
        body = body.replace(b'"rows":4', b'"rows":5')
        assert body != delivery.body
    elif case == "of another id":
        headers["webhook-id"] = headers["webhook-id"][::-1]
    elif case == "without a time":
        headers["webhook-timestamp"] = "now"
    elif case == "signed badly":
        headers["webhook-signature"] = "v1 v1, v2,xxx v1,é"
    elif case == "not signed":
        del headers["webhook-signature"]

    assert judges(secret, headers, body, sent_at + later, tmp_path) is is_genuine
