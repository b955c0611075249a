"""Tests an import that stores its rows and failures in SeaweedFS, an S3 server that is not AWS. SQS is still moto."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from bulk_import.local.processes import await_answer, free_port, stop_process
from demo.stack import FAILURES_BUCKET, PAYLOADS_BUCKET, PROJECT, local_stack
from tests.shop_client import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.stack import LocalStack

WEED = Path(sys.executable).parent / "weed"
TIMEOUT_SECONDS = 60

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("weed")
    parts = ("master", "volume", "filer", "s3")
    ports = {part: free_port() for part in (*parts, *(f"{part}.grpc" for part in parts))}
    options = [f"-{part.replace('.grpc', '')}.port{'.grpc' * part.endswith('.grpc')}={ports[part]}" for part in ports]
    log = (folder / "weed.log").open("w")
    process = subprocess.Popen(
        [WEED, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *options,
         "-s3.port.iceberg=0", "-s3.port.lance=0"],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{ports['s3']}"
        await_answer(url, process)
        make_buckets(url)
        yield url
    finally:
        process.kill()  # SIGTERM would take half a minute
        stop_process(process)
        log.close()


def make_buckets(url: str) -> None:
    s3: Any = boto3.Session("local", "local", region_name="us-east-1").client("s3", endpoint_url=url)
    for bucket in (PAYLOADS_BUCKET, FAILURES_BUCKET):
        s3.create_bucket(Bucket=bucket)
    s3.close()


@pytest.fixture(scope="module")
def shop(s3_url: str) -> Iterator[LocalStack]:
    """The whole stack, with SeaweedFS for S3."""
    with ExitStack() as cleanup:
        stack = cleanup.enter_context(local_stack())
        stack.environment["AWS_ENDPOINT_URL_S3"] = s3_url
        for start in (stack.start_monolith, stack.start_poller):
            cleanup.callback(stop_process, start())
        yield stack


def test_an_import_runs_on_seaweedfs(shop: LocalStack, s3_url: str) -> None:
    basis = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware"}
    rows = [{"sku": f"WEED-{number}", **basis} for number in range(150)]  # two chunks
    rows[70]["price"] = "a lot"

    with httpx.Client(base_url=shop.url, auth=("demo", "demo"), timeout=60, trust_env=False) as http:
        accepted = http.post("/products/bulk?on_invalid=skip", json=rows)
        assert accepted.status_code == 202, accepted.text
        give_up_at = time.monotonic() + TIMEOUT_SECONDS
        while (job := http.get(accepted.headers["Location"]).json())["status"] not in TERMINAL:
            assert time.monotonic() < give_up_at, shop.log
            time.sleep(0.2)
        failures = http.get(accepted.headers["Location"] + "/failures").text.splitlines()

    assert job["status"] == "partially_succeeded"
    assert [json.loads(line)["index"] for line in failures] == [70]
    s3: Any = boto3.Session("local", "local", region_name="us-east-1").client("s3", endpoint_url=s3_url)
    kept = (
        s3.list_objects_v2(Bucket=PAYLOADS_BUCKET)["KeyCount"],
        s3.list_objects_v2(Bucket=FAILURES_BUCKET)["KeyCount"],
    )
    s3.close()
    assert kept == (1, 1)


def test_the_doctor_accepts_seaweedfs(shop: LocalStack) -> None:
    """The doctor also checks conditional writes, which some S3 servers ignore."""
    command = [sys.executable, "manage.py", "bulk_import_doctor", "--json"]
    done = subprocess.run(command, cwd=PROJECT, env=shop.environment, capture_output=True, text=True, check=False)

    levels = {finding["subject"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
    assert (levels["payloads bucket"], levels["failures bucket"]) == ("ok", "ok"), done.stdout
