"""`python -m tests.simulation.mutate`: removes one guarantee at a time. The simulation must find each one.

It fails if a guarantee can be removed without a finding within MAX_RUNS runs. Afterwards it tries changes that the
simulation is not expected to find, in fewer runs, and reports what happens: they show the limits of what a clean
simulation proves.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.stack import PROJECT
from tests.chaos.mutate import LEFT_OUT, MUTATIONS, Mutation, edit

MAX_RUNS = 1000
"""Runs within which each guarantee must be missed."""

SURVIVOR_RUNS = 100
"""Runs with each change that we do not expect the simulation to find."""

LOST = "    for sent in _send(chunks_with_lost_messages()):\n"
LOST_IF_MISSED = """
    from bulk_import.outbox.queue import _configured_client
    expected = ImportChunk.objects.filter(status__in=["queued", "processing"]).count()
    is_missed = len(_configured_client().queue.messages) < expected
    for sent in _send(chunks_with_lost_messages()) if is_missed else ():
"""

GUARANTEES = (
    # S3 is simulated here, so its timeouts have no effect, and SQLite has no locks.
    *(mutation for mutation in MUTATIONS if mutation.profile != "hangs" and "lock" not in mutation.name),
    Mutation(
        "the verdict header",
        "",
        (
            (
                "lambda_worker/retries.py",
                "    Rule(NOT_CREATED, REFUSAL, Decision.REJECTED),\n",
                "    Rule(ANY_VERDICT, REFUSAL, Decision.REJECTED),\n",
            ),
        ),
    ),
    Mutation(
        "the late acknowledgement",
        "",
        (
            (
                "lambda_worker/handler.py",
                "        retry_later(sqs, queue_url, record)\n        return False\n    return True\n",
                "        retry_later(sqs, queue_url, record)\n    return True\n",
            ),
        ),
    ),
    Mutation(
        "the check of a batch's epoch",
        "",
        (("bulk_import/worker_api/batch.py", "            chunk.check_epoch(batch.head.epoch)\n", ""),),
    ),
    Mutation(
        "the rows that a batch did not reach",
        "",
        (("lambda_worker/row_dispatch.py", "        self._put_back(left)\n", ""),),
    ),
    Mutation(
        "the size of the window",
        "",
        (
            (
                "bulk_import/models/window.py",
                "    free = conf().chunks_in_flight - sum(job.in_flight for job in jobs)\n",
                "    free = conf().chunks_in_flight\n",
            ),
        ),
    ),
    Mutation(
        "the replacement of lost messages",
        "",
        (("bulk_import/outbox/relay.py", " + replace_lost_messages()", ""),),
    ),
    Mutation(
        "the replacement of a lost message that surplus messages hide",
        "",
        (("bulk_import/outbox/relay.py", LOST, LOST_IF_MISSED),),
    ),
    Mutation(
        "the turns of the users",
        "",
        (
            (
                "bulk_import/models/fair_choice.py",
                "return self.in_flight, self.served_at, self.waiting[0].due_at",
                "return -self.in_flight, self.served_at, self.waiting[0].due_at",
            ),
        ),
    ),
    Mutation(
        "the end of a pause",
        "",
        (
            (
                "bulk_import/models/pause.py",
                "        if job.is_paused and not job.is_paused_until_resumed:\n",
                "        if False:\n",
            ),
        ),
    ),
)
"""The mutations that the simulation must find."""

LEASE = "        if self.lease_left is not None and self.lease_left > timedelta(0):\n"
BODY_CHECK = "        if chunk.row_hash and self.body_sha256[:ROW_HASH_BYTES] != chunk.row_hash:\n"
SIZE_CHECK = "    if len(data) != message.byte_count:\n"

EXPECTED_SURVIVORS = (
    *(mutation for mutation in MUTATIONS if "lock" in mutation.name),
    Mutation(
        "the end of a batch after a stop, because each row is checked",
        "",
        (("bulk_import/worker_api/batch.py", "if stops(line) or time.monotonic() >= ends_at:", "if False:"),),
    ),
    Mutation(
        "leases, which only prevent duplicate work",
        "",
        (("bulk_import/models/lease.py", LEASE, "        if False:\n"),),
    ),
    Mutation(
        "heartbeats, which only keep the lease",
        "",
        (("lambda_worker/heartbeats.py", "    while True:\n", "    while not claim:\n"),),
    ),
    Mutation(
        "the fast path of the messages, behind which is the sweep",
        "",
        (
            (
                "bulk_import/outbox/relay.py",
                "lambda: send_unsent_chunks(Q(pk__in=reserved)), using",
                "lambda: None, using",
            ),
        ),
    ),
    Mutation(
        "the lock of a create call, which SQLite does not have",
        "",
        (("bulk_import/models/locked_chunk.py", '"FOR KEY SHARE OF chunk" if', '"" if'),),
    ),
    Mutation(
        "the wait of a finish for running creates, as above",
        "",
        (("bulk_import/worker_api/views.py", "locked(chunk_id, wait_for_creates=True)", "locked(chunk_id)"),),
    ),
    Mutation(
        "the check of the body, which only forgery violates",
        "",
        (("bulk_import/ledger.py", BODY_CHECK, "        if False:\n"),),
    ),
    Mutation(
        "the age of tokens, which only theft makes relevant",
        "",
        (("bulk_import/authentication.py", "TOKEN_MAX_AGE_SECONDS = 3600\n", "TOKEN_MAX_AGE_SECONDS = 10**9\n"),),
    ),
    Mutation(
        "the size check of a payload that S3 cut",
        "",
        (("lambda_worker/payload_reader.py", SIZE_CHECK, "    if False:\n"),),
    ),
    Mutation(
        "the reaction of the limiter to latency",
        "",
        (("lambda_worker/limiter.py", "        if is_too_high and not 1", "        if False and not 1"),),
    ),
    Mutation(
        "the wait between two calls of the worker API",
        "",
        (("lambda_worker/monolith_client.py", "await asyncio.sleep(wait_seconds)", "await asyncio.sleep(0)"),),
    ),
)
"""The mutations that we do not expect the simulation to find, each with the reason in its name."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutate", description=__doc__)
    parser.add_argument("--runs", type=int, default=MAX_RUNS)
    parser.add_argument("--only", default="", help="try only the mutations whose name contains this text")
    given = parser.parse_args()
    all_found = True
    for mutation in GUARANTEES:
        if given.only in mutation.name:
            all_found &= is_found(mutation, given.runs)
    for mutation in EXPECTED_SURVIVORS:
        if given.only in mutation.name:
            is_found(mutation, min(given.runs, SURVIVOR_RUNS))
    return 0 if all_found else 1


def is_found(mutation: Mutation, runs: int) -> bool:
    """Return whether the simulation has a finding without the guarantee. Prints one line."""
    started_at = time.monotonic()
    with TemporaryDirectory(prefix="bulk-import-mutant-") as folder:
        copy = Path(folder) / "project"
        shutil.copytree(PROJECT, copy, ignore=LEFT_OUT)
        for path, text, instead in mutation.edits:
            edit(copy / path, text, instead)
        command = [sys.executable, "-m", "tests.simulation", f"--runs={runs}", "--until-red", "--no-shrink"]
        run = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    *found, last = run.stdout.splitlines() or [""]
    try:
        summary = json.loads(last)
    except ValueError:
        print(run.stdout, run.stderr, sep="\n")
        return False
    findings = [line.strip() for line in found if line.startswith("  ")]
    seconds = time.monotonic() - started_at
    verdict = f"found in run {summary['runs']}: {findings[0]}" if findings else f"not found in {summary['runs']} runs"
    print(f"without {mutation.name:<58} {seconds:5.0f} s  {verdict}", flush=True)
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
