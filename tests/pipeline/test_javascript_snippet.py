"""The snippet of docs/api.md, run by node against a running shop."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.counts import counts
from tests.pipeline.serve import Shop, rows

PROJECT = Path(__file__).resolve().parents[2]
NODE = shutil.which("node")
REST_SECONDS = 4  # some polls

# `crypto` is a global of browsers and of Node 19 and newer.
CALLER = """
import { webcrypto } from "node:crypto";
globalThis.crypto ??= webcrypto;
const { importRows } = await import(process.argv[2]);
const { url, rows, headers } = JSON.parse(process.argv[3]);
const seen = [];
try {
  const job = await importRows(url, rows, { headers, onProgress: (job) => seen.push(job.counts) });
  console.log(JSON.stringify({ job, seen }));
} catch ({ name, code, message, errors }) {
  console.log(JSON.stringify({ code, message, errors }));
}
"""

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(NODE is None, reason="Needs node: apt-get install nodejs"),
]


def run_snippet(folder: Path, shop: Shop, submitted: list[dict[str, Any]]) -> dict[str, Any]:
    caller = folder / "caller.mjs"
    caller.write_text(CALLER)
    snippet = folder / "import.mjs"
    snippet.write_text((PROJECT / "docs" / "import.js").read_text())
    authorization = "Basic " + base64.b64encode(b"demo:demo").decode()
    call = {"url": f"{shop.url}/products/bulk", "rows": submitted, "headers": {"Authorization": authorization}}
    command = [str(NODE), str(caller), str(snippet), json.dumps(call)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_snippet_imports_and_follows_to_the_end(tmp_path: Path, shop: Shop) -> None:
    """The poller rests at first, so that some answers are 304."""
    os.kill(shop.poller, signal.SIGSTOP)
    threading.Timer(REST_SECONDS, os.kill, [shop.poller, signal.SIGCONT]).start()
    good, bad = rows("js", 230), rows("js-kayak", 3, category="kayaks")
    ended = run_snippet(tmp_path, shop, good + bad)
    refused = run_snippet(tmp_path, shop, [{"sku": "js"}])

    assert ended["job"]["status"] == "partially_succeeded"
    assert ended["job"]["counts"] == counts(created=230, rejected=3)
    pending = [seen["pending"] for seen in ended["seen"]]
    assert len(pending) > 1
    assert pending[0] == 233
    assert pending == sorted(pending, reverse=True)
    assert refused["code"] == "invalid_rows"
    assert {error["field"] for error in refused["errors"]} == {"name", "price", "currency", "category"}
