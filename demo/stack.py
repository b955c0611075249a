"""Runs all parts on loopback, without AWS and without Docker.

The parts are S3 and SQS from moto, the monolith on gunicorn, and pollers that replace AWS's event source mapping and
Lambda. Each is a separate process. All state is in one temporary folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import boto3

from bulk_import.local.aws import create_bucket, create_queues, local_aws
from bulk_import.local.processes import await_answer, free_port, start_part
from bulk_import_wire.queue_rules import recommended_visibility_seconds
from settings.known_secrets import WORKER_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

PROJECT = Path(__file__).resolve().parent.parent
PAYLOADS_BUCKET = "bulk-import-payloads"
FAILURES_BUCKET = "bulk-import-failures"
QUEUE = "bulk-import"
LOG = "stack.log"
DEAD_LETTER_QUEUE = "bulk-import-dead-letters"

FUNCTION_TIMEOUT_SECONDS = 10
VISIBILITY_TIMEOUT_SECONDS = recommended_visibility_seconds(FUNCTION_TIMEOUT_SECONDS)
"""SQS redelivers the message of a killed poller after this time."""
START_GUNICORN = ["-m", "gunicorn", "settings.wsgi", "--workers=2", "--log-level=warning"]
START_GUNICORN += ["--config=python:demo.gunicorn_conf"]
START_GUNICORN += ["--graceful-timeout=10"]  # also how long a worker finishes its requests after gunicorn was killed
START_POLLER = ["-m", "lambda_worker", f"--function-timeout={FUNCTION_TIMEOUT_SECONDS}", "--wait-seconds=1"]
START_RELAY = ["manage.py", "bulk_import_relay", "--every=5"]


class LocalStack:
    """Starts the parts, and knows their URLs and folders. Use `local_stack()` to create one."""

    def __init__(self, folder: Path, log: IO[str], port: int, aws_url: str, database_url: str | None) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.aws_url = aws_url
        self.queue_url = f"{aws_url}/123456789012/{QUEUE}"
        self.dead_letter_url = f"{aws_url}/123456789012/{DEAD_LETTER_QUEUE}"
        self.sqlite = folder / "db.sqlite3"
        self.database_url = database_url or f"sqlite:///{self.sqlite}"
        self.mail_folder = folder / "mail"
        self._log = log
        # The parts must not see the caller's own AWS or Django configuration.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BULK_IMPORT_"))}
        self.environment = inherited | {
            "DJANGO_SETTINGS_MODULE": "settings.local",
            "DATABASE_URL": self.database_url,
            "EMAIL_FILE_PATH": str(self.mail_folder),
            "AWS_ENDPOINT_URL": aws_url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "BULK_IMPORT_QUEUE_URL": self.queue_url,
            "BULK_IMPORT_BASE_URL": self.url,
            "BULK_IMPORT_PUBLIC_URL": self.url,
            "BULK_IMPORT_WORKER_SECRET": WORKER_SECRET,
            "BULK_IMPORT_PAYLOADS_BUCKET": PAYLOADS_BUCKET,
            "BULK_IMPORT_FAILURES_BUCKET": FAILURES_BUCKET,
        }

    @property
    def log(self) -> str:
        return (self.folder / LOG).read_text()

    def run(self, *arguments: str) -> None:
        """Run Python with these arguments and wait for its end. Raises subprocess.CalledProcessError if it fails."""
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=PROJECT, env=self.environment, check=True)  # noqa: S603 - our own command

    def start_monolith(self, url: str = "", **variables: str) -> subprocess.Popen[bytes]:
        """Start gunicorn at `url`, by default at that of the stack, and wait until it answers.

        `variables` are further environment variables. GUNICORN_THREADS is the number of threads of each process.
        Raises RuntimeError if it does not answer.
        """
        url = url or self.url
        bind = "--bind=" + url.removeprefix("http://")
        threads = (self.environment | variables).get("GUNICORN_THREADS", "4")
        monolith = self._start([*START_GUNICORN, f"--threads={threads}", bind], variables)
        try:
            await_answer(f"{url}/admin/login/", monolith)
        except RuntimeError as error:
            raise RuntimeError(f"The monolith did not start:\n{self.log}") from error
        return monolith

    def start_poller(self) -> subprocess.Popen[bytes]:
        """Start the poller that replaces the Lambda function behind the queue."""
        return self._start([*START_POLLER, "--concurrency=2"])

    def start_dead_letter_poller(self) -> subprocess.Popen[bytes]:
        """Start the poller that replaces the Lambda function behind the dead-letter queue."""
        handler = ["--handler=lambda_worker.dead_letter.handler", f"--queue-url={self.dead_letter_url}"]
        return self._start([*START_POLLER, *handler])

    def start_relay(self) -> subprocess.Popen[bytes]:
        """Start the relay, which cron would run."""
        return self._start(START_RELAY)

    def _start(self, arguments: list[str], variables: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        return start_part([sys.executable, *arguments], self._log, self.environment | (variables or {}), PROJECT)


@contextmanager
def local_stack(port: int = 0, database_url: str | None = None) -> Iterator[LocalStack]:
    """Start S3 and SQS and fill the database. The caller starts the monolith and the pollers.

    The database is SQLite in a temporary folder, unless the caller passes the URL of an empty database.
    """
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="bulk-import-")))
        log = cleanup.enter_context((folder / LOG).open("w"))
        aws_url = cleanup.enter_context(demo_aws(log))
        stack = LocalStack(folder, log, port or free_port(), aws_url, database_url)
        if database_url:
            stack.run("-m", "demo.prepare")
        else:
            prepare_sqlite(stack)
        yield stack


def prepare_sqlite(stack: LocalStack) -> None:
    """Fill the SQLite database of a stack.

    The environment variable PREPARED_SQLITE names a file that keeps a copy for the next stacks. The tests set it,
    because they start many stacks and the migrations take longer than everything else.
    """
    kept = os.environ.get("PREPARED_SQLITE")
    if kept and Path(kept).exists():
        shutil.copyfile(kept, stack.sqlite)
        return
    stack.run("-m", "demo.prepare")
    if kept:
        shutil.copyfile(stack.sqlite, kept)


@contextmanager
def demo_aws(log: IO[str]) -> Iterator[str]:
    """Start S3 and SQS, create the buckets and queues, and yield the URL. Raises RuntimeError if they do not start."""
    with local_aws(free_port(), log) as aws_url:
        session = boto3.Session("local", "local", region_name="us-east-1")
        for bucket in (PAYLOADS_BUCKET, FAILURES_BUCKET):
            create_bucket(session.client("s3", endpoint_url=aws_url), bucket)
        create_queues(session.client("sqs", endpoint_url=aws_url), QUEUE, VISIBILITY_TIMEOUT_SECONDS)
        yield aws_url
