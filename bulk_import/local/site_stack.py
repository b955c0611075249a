"""What a site needs besides itself to run imports on this machine: S3, SQS, the workers and the relay.

All of them get their configuration from the settings of the site.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from django.conf import settings
from django.core.files.storage import storages

from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE, conf
from bulk_import.local.aws import create_bucket, create_queues, local_aws
from bulk_import.local.processes import restart_ended, start_part, stop_process
from bulk_import.site_paths import find_path
from bulk_import_wire.probe import PROBE_PATH
from bulk_import_wire.queue_rules import recommended_visibility_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bulk_import.local.processes import Process

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FUNCTION_TIMEOUT_SECONDS = 300
DEAD_LETTER_TIMEOUT_SECONDS = 50
RELAY_SECONDS = 5
START_WORKER = ["-m", "lambda_worker", "--wait-seconds=1"]


class CannotRun(Exception):
    """The settings do not lead to services on this machine, or something is missing. The text says what to change."""


class SiteStack:
    """The running parts. Call `check` from time to time."""

    def __init__(self, base_url: str, dead_letter_url: str, say: Callable[[str], None]) -> None:
        self._say = say
        environment = worker_environment(base_url)
        dead_letters = ["--handler=lambda_worker.dead_letter.handler", f"--queue-url={dead_letter_url}"]
        dead_letters.append(f"--function-timeout={DEAD_LETTER_TIMEOUT_SECONDS}")
        relay = ["-m", "django", "bulk_import_relay", f"--every={RELAY_SECONDS}"]
        commands = {
            "worker": [*START_WORKER, "--concurrency=2", f"--function-timeout={FUNCTION_TIMEOUT_SECONDS}"],
            "dead-letter worker": [*START_WORKER, *dead_letters],
            "relay": relay,
        }
        self._starts: dict[str, Callable[[], Process]] = {
            name: lambda command=command: start_part([sys.executable, *command], None, environment)  # type: ignore[misc]
            for name, command in commands.items()
        }
        self.running = {name: start() for name, start in self._starts.items()}

    def check(self) -> None:
        """Restart the parts that have ended."""
        restart_ended(self._starts, self.running, self._say)

    def stop(self) -> None:
        stop_process(*self.running.values())


def worker_environment(base_url: str) -> dict[str, str]:
    """Return the environment of the workers and the relay."""
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "DJANGO_SETTINGS_MODULE": str(settings.SETTINGS_MODULE),
        "AWS_ENDPOINT_URL": _aws_url(),
        "BULK_IMPORT_QUEUE_URL": conf().queue_url,
        "BULK_IMPORT_BASE_URL": base_url,
        "BULK_IMPORT_WORKER_SECRET": conf().worker_secrets[0],
        "BULK_IMPORT_WORKER_API_PATH": find_path("bulk-import-probe", {}).removesuffix(PROBE_PATH),
        "BULK_IMPORT_PAYLOADS_BUCKET": _storage(PAYLOADS_STORAGE).bucket_name,
        "BULK_IMPORT_FAILURES_BUCKET": _storage(FAILURES_STORAGE).bucket_name,
    }


@contextmanager
def site_stack(base_url: str, say: Callable[[str], None]) -> Iterator[SiteStack]:
    """Start everything. Raises CannotRun."""
    if not importlib.util.find_spec("httpx_aiohttp"):
        raise CannotRun("The worker is not installed. Run: pip install 'django-bulk-import[worker]'")
    port = urlsplit(_aws_url()).port or 80
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            message = (
                f"Port {port} is in use. Stop the other bulk_import_local, or use another port in AWS_ENDPOINT_URL"
            )
            raise CannotRun(f"{message} and in QUEUE_URL.")
    with ExitStack() as parts:
        try:
            parts.enter_context(local_aws(port, None, say))
        except RuntimeError as error:
            raise CannotRun(str(error)) from error
        for alias in (PAYLOADS_STORAGE, FAILURES_STORAGE):
            storage = _storage(alias)
            create_bucket(storage.connection.meta.client, storage.bucket_name)
        name = conf().queue_url.rpartition("/")[2]
        visibility = recommended_visibility_seconds(FUNCTION_TIMEOUT_SECONDS)
        queue_url, dead_letter_url = create_queues(_sqs(), name, visibility)
        if queue_url != conf().queue_url:
            raise CannotRun(f'The queue is at {queue_url}. Set "QUEUE_URL" in BULK_IMPORT to this URL.')
        stack = SiteStack(base_url, dead_letter_url, say)
        parts.callback(stack.stop)
        yield stack


def _aws_url() -> str:
    """Return the URL at which the settings expect both S3 and SQS. Raises CannotRun if it is not on this machine."""
    urls = {_sqs().meta.endpoint_url, *map(_s3_url, (PAYLOADS_STORAGE, FAILURES_STORAGE))}
    if len(urls) > 1 or urlsplit(next(iter(urls))).hostname not in LOOPBACK:
        places = ", ".join(sorted(urls))
        message = f"This command starts S3 and SQS on this machine, but the settings lead to {places}."
        raise CannotRun(f"{message} Set AWS_ENDPOINT_URL=http://127.0.0.1:4566 in the environment.")
    return str(urls.pop())


def _s3_url(alias: str) -> str:
    return str(_storage(alias).connection.meta.client.meta.endpoint_url)


def _storage(alias: str) -> Any:
    return storages[alias]


def _sqs() -> Any:
    return boto3.client(
        "sqs", **{"region_name": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"), **conf().queue_client}
    )
