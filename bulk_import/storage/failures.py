"""The rows that were not created, as the worker wrote them to the failures bucket.

Needs s3:GetObject, and for `retention` s3:ListBucket and s3:DeleteObject.
The bucket's tree is drawn in `lambda_worker.failure_file`, which owns it; what a line holds is in the contract.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import storages
from django.utils.translation import gettext as _

from bulk_import.conf import FAILURES_STORAGE
from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import.models import TERMINAL_CHUNK_STATUSES
from bulk_import_wire.lines import read_failure_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from bulk_import.models import ImportJob

logger = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024
"""Read from S3 at a time: all that is in memory of a chunk's failures, whatever their size."""

PAGE_KEYS = 1000
"""Listed and deleted at a time; S3 takes no more."""


def read_failures(job: ImportJob) -> Iterator[bytes]:
    """The failures of the chunks that have ended, in input order, a line of JSON at a time.

    Raises Expired, and StorageUnavailable.
    """
    _check_retained(job)
    ended = job.chunks.filter(status__in=TERMINAL_CHUNK_STATUSES).exclude(failures_key="")
    for key in ended.order_by("number").values_list("failures_key", flat=True):
        yield from _read_lines(job, key)


def read_failure(job: ImportJob, index: int) -> bytes | None:
    """The line of one row; None when the row was created or has not ended.

    Raises Expired, and StorageUnavailable.
    """
    _check_retained(job)
    if index >= job.rows:  # also what no column could hold
        return None
    chunk = job.chunks.filter(first_index__lte=index).order_by("-first_index").first()
    if chunk is None or chunk.status not in TERMINAL_CHUNK_STATUSES or not chunk.failures_key:
        return None
    with closing(_read_lines(job, chunk.failures_key)) as lines:
        return next((line for line in lines if read_failure_line(line)[0]["index"] == index), None)


def stored_failures(job: ImportJob) -> Iterator[list[str]]:
    """The keys of all failures of the job, some at a time; also of epochs that do not count.

    Raises StorageUnavailable.
    """
    storage: Any = storages[FAILURES_STORAGE]
    pages = storage.connection.meta.client.get_paginator("list_objects_v2")
    try:
        for page in pages.paginate(Bucket=storage.bucket_name, Prefix=f"{job.pk}/", MaxKeys=PAGE_KEYS):
            if keys := [entry["Key"] for entry in page.get("Contents", [])]:
                yield keys
    except (BotoCoreError, ClientError) as error:
        raise StorageUnavailable(f"S3 does not list the failures of job {job.pk}: {error}") from error


def delete_failures(keys: list[str]) -> None:
    """Delete these, at most PAGE_KEYS. Again is harmless. Raises StorageUnavailable unless all are deleted."""
    storage: Any = storages[FAILURES_STORAGE]
    objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    try:
        answer = storage.connection.meta.client.delete_objects(Bucket=storage.bucket_name, Delete=objects)
    except (BotoCoreError, ClientError) as error:
        raise StorageUnavailable(f"S3 does not delete failures: {error}") from error
    if refused := answer.get("Errors"):
        raise StorageUnavailable(f"S3 does not delete failures: {refused[0]}")


def _check_retained(job: ImportJob) -> None:
    if "failures" in job.expired:
        raise Expired(_("The failures of this import are no longer kept."))


def _read_lines(job: ImportJob, key: str) -> Generator[bytes]:
    storage: Any = storages[FAILURES_STORAGE]
    client = storage.connection.meta.client
    try:
        with closing(client.get_object(Bucket=storage.bucket_name, Key=key)["Body"]) as body:
            yield from body.iter_lines(PIECE_BYTES, keepends=True)
    except (BotoCoreError, ClientError) as error:
        logger.exception("S3 did not give the failures of job %s", job.pk)
        raise StorageUnavailable(_("The failures cannot be read right now. Please ask again.")) from error
