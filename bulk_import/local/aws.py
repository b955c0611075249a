"""S3 and SQS on this machine: a moto server, with the buckets and queues of a site.

moto needs about fifty packages. So it gets an environment of its own in a cache folder, unless the current environment
has it already.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.files import locks

from bulk_import.local.processes import await_answer, start_part
from bulk_import_wire.queue_rules import MIN_RECEIVE_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

MOTO = "moto[s3,server,sqs]>=5.2.5,<6"
SERVER = Path(__file__).with_name("moto_server.py")
DEFAULT_REGION = "us-east-1"

RETENTION_SECONDS = 604_800  # of a message on the queue: 7 days
DEAD_LETTER_RETENTION_SECONDS = 1_209_600  # 14 days, the most that SQS allows
MAX_DEAD_LETTER_VISIBILITY_SECONDS = 300
MAX_LINES_OF_ERROR = 5
"""Lines of pip's output in an error. The last ones say why it failed."""


def moto_python(say: Callable[[str], None]) -> str:
    """Return the path of a Python that has moto. The first call installs it, which takes about half a minute.

    Raises RuntimeError if it cannot be installed.
    """
    if all(importlib.util.find_spec(name) for name in ("moto", "flask", "flask_cors")):
        return sys.executable
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "django-bulk-import"
    folder = cache / "moto-5-python-{}.{}".format(*sys.version_info)
    python, complete = folder / "bin" / "python", folder / "complete"
    if os.name == "nt":
        python = folder / "Scripts" / "python.exe"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        locks.lock(lock, locks.LOCK_EX)  # two projects may be started at the same time
        if not complete.exists():
            say(f"Installing moto into {folder}. This happens only once.")
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", MOTO)
            complete.touch()
    return str(python)


def _run(*command: str) -> None:
    """Run a command. Raises RuntimeError with the end of its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        said = "\n".join(f"{done.stdout}{done.stderr}".splitlines()[-MAX_LINES_OF_ERROR:])
        raise RuntimeError(f"moto cannot be installed: {' '.join(command)}\n{said}")


@contextmanager
def local_aws(port: int, log: IO[str] | int | None, say: Callable[[str], None] = print) -> Iterator[str]:
    """Start S3 and SQS, and yield their URL. Raises RuntimeError if they do not start."""
    url = f"http://127.0.0.1:{port}"
    aws = start_part([moto_python(say), "-P", str(SERVER), str(port)], log)
    try:
        await_answer(f"{url}/moto-api/", aws)
        yield url
    finally:
        aws.kill()  # it has nothing to finish: all its data is in memory
        aws.wait()


def create_bucket(s3: Any, name: str) -> None:
    region = s3.meta.region_name or DEFAULT_REGION
    elsewhere = {} if region == DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **elsewhere)


def create_queues(sqs: Any, name: str, visibility_seconds: int) -> tuple[str, str]:
    """Create the queue and its dead-letter queue, as the template does in AWS. Returns their URLs."""
    dead_url: str = sqs.create_queue(
        QueueName=f"{name}-dead-letters",
        Attributes={
            "VisibilityTimeout": str(min(visibility_seconds, MAX_DEAD_LETTER_VISIBILITY_SECONDS)),
            "MessageRetentionPeriod": str(DEAD_LETTER_RETENTION_SECONDS),
        },
    )["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    url: str = sqs.create_queue(
        QueueName=name,
        Attributes={
            "VisibilityTimeout": str(visibility_seconds),
            "MessageRetentionPeriod": str(RETENTION_SECONDS),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MIN_RECEIVE_COUNT}),
        },
    )["QueueUrl"]
    return url, dead_url
