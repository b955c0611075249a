"""`python -m tests.chaos.mutate`: removes one guarantee at a time from the code. The chaos runs must then fail.

Each mutation changes a copy of the project. If the chaos runs still pass, they prove nothing about that line, and this
command fails. It also fails if a mutation does not find its text: then the code has changed, and the mutation is out of
date.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.stack import PROJECT
from tests.chaos.findings import Findings

WAIT_SECONDS = 20
MAX_RUNS = 8
TIMEOUT_SECONDS = 600
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "node_modules", "build", "dist")

ANY_INDEX = "models.CheckConstraint(condition=models.Q(index__gte=0), "

# Lines of `ImportedRowMiddleware._create`.
BEGIN = "        with _committed_transaction(using):\n"
WRITE_RECORD = "            self._act_as_submitter(request, chunk)\n            record = call.write_record()\n"


@dataclass(frozen=True)
class Mutation:
    """The guarantee that is removed, as edits (file, text, replacement), and the profile of chaos that must detect it.

    Each text must occur exactly once.
    """

    name: str
    profile: str
    edits: tuple[tuple[str, str, str], ...]


MUTATIONS = (
    Mutation(
        "the ledger's unique constraint",
        "twins",
        (
            ("bulk_import/models/row.py", 'models.UniqueConstraint(fields=["job", "index"], ', ANY_INDEX),
            ("bulk_import/migrations/0001_initial.py", 'models.UniqueConstraint(fields=("job", "index"), ', ANY_INDEX),
        ),
    ),
    Mutation(
        "the transaction that record and product share",
        "answers",
        (("bulk_import/middleware.py", WRITE_RECORD, WRITE_RECORD + BEGIN),),
    ),
    Mutation(
        "the check of the epoch",
        "pauses",
        (
            (
                "bulk_import/models/locked_chunk.py",
                "return is_processing and self.epoch == epoch",
                "return True",
            ),
            (
                "bulk_import/models/lease.py",
                "if epoch != self.epoch or self.status != ChunkStatus.PROCESSING:",
                "if False:",
            ),
        ),
    ),
    Mutation(
        "the relay's sweep",
        "unsent",
        (("bulk_import/outbox/relay.py", "        messages = refill_windows()\n", "        messages = 0\n"),),
    ),
    Mutation(
        "the refill of the window",
        "unsent",
        (
            (
                "bulk_import/worker_api/views.py",
                "        relay.send_next_chunks(chunk.job.target)  # before",
                "        # before",
            ),
            ("bulk_import/outbox/relay.py", "            reserved += reserve_chunks(target)\n", ""),
        ),
    ),
    Mutation(
        "the longest pause",
        "outage",
        (
            (
                "bulk_import/models/lease.py",
                "if self.job.has_been_paused_for(",
                "if False and self.job.has_been_paused_for(",
            ),
        ),
    ),
    Mutation(
        "the end of the retries of a row",
        "errors",
        (
            ("lambda_worker/row_dispatch.py", "elif row.is_refused_a_retry:", "elif False:"),
            ("lambda_worker/row_dispatch.py", "row.tries >= MAX_TRIES", "False"),
        ),
    ),
    Mutation(
        "the timeouts of S3",
        "hangs",
        (("bulk_import/storage/buckets.py", "if storage.client_config.connect_timeout != CONNECT", "if 0 > CONNECT"),),
    ),
    Mutation(
        "the ledger's check of a pause by staff",
        "staff",
        (
            (
                "bulk_import/ledger.py",
                "if chunk.is_cancelled or chunk.is_paused_until_resumed:",
                "if chunk.is_cancelled:",
            ),
        ),
    ),
    Mutation(
        "the order of updates",
        "changes",
        (("bulk_import/existing_object.py", "    _check_not_superseded(call, target, existing)\n", ""),),
    ),
    Mutation(
        "the lock of a changed object",
        "changes",
        (
            (
                "bulk_import/existing_object.py",
                "manager.select_for_update(no_key=no_key, of=of).filter(",
                "manager.filter(",
            ),
        ),
    ),
    Mutation(
        "the rollback of a rehearsal",
        "changes",
        (
            (
                "bulk_import/rehearsal.py",
                "            stack.callback(transaction.set_rollback, True, using=alias)\n",
                "",
            ),
        ),
    ),
    Mutation(
        "the comparison before an undo",
        "changes",
        (
            (
                "bulk_import/created_object.py",
                'if bytes(record.object_hash) != object_hash(type(instance), "pk", instance.pk):',
                "if False:",
            ),
        ),
    ),
)


def main(names: list[str]) -> int:
    """Try the mutations whose names contain one of these texts, or all of them."""
    chosen = [mutation for mutation in MUTATIONS if not names or any(name in mutation.name for name in names)]
    verdicts = [try_mutation(mutation) for mutation in chosen]
    return 0 if all(verdicts) else 1


def try_mutation(mutation: Mutation) -> bool:
    """Return whether the chaos runs fail without the guarantee. Prints one line."""
    started_at = time.monotonic()
    with TemporaryDirectory(prefix="bulk-import-mutant-") as folder:
        copy = Path(folder) / "project"
        shutil.copytree(PROJECT, copy, ignore=LEFT_OUT)
        for path, text, instead in mutation.edits:
            edit(copy / path, text, instead)
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.chaos",
                f"--runs={MAX_RUNS}",
                f"--profile={mutation.profile}",
                f"--wait-seconds={WAIT_SECONDS}",
                "--until-red",
            ],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    is_red, found = read_verdict(run.stdout)
    seconds = time.monotonic() - started_at
    print(f"without {mutation.name:<48} {'red' if is_red else 'GREEN':<6} {seconds:5.0f} s  {found}", flush=True)
    if not found:
        print(run.stdout, run.stderr, sep="\n")
    return is_red


def edit(path: Path, text: str, instead: str) -> None:
    """Replace the text. Raises ValueError if it does not occur exactly once: the mutation is out of date."""
    source = path.read_text()
    if source.count(text) != 1:
        raise ValueError(f"{path.name} contains this text {source.count(text)} times instead of once: {text}")
    path.write_text(source.replace(text, instead))


def read_verdict(output: str) -> tuple[bool, str]:
    """Return whether there were findings, and a summary. A run that crashed proves nothing, so it counts as green."""
    lines = output.splitlines()
    try:
        summary = json.loads(lines[-1])
    except (IndexError, ValueError):
        return False, ""
    wrong = {name: summary[name] for name in Findings().counts()}
    return any(wrong.values()), f"{wrong} after {summary['runs']} runs"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
