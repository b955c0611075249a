"""The failures bucket: reads and deletes the lines that the worker wrote about rows that were not created.

Needs s3:GetObject, and for `retention` s3:ListBucket and s3:DeleteObject. The worker chooses the keys of the objects;
see `lambda_worker.failure_file`. The format of a line is in `bulk_import_wire.lines`.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from bulk_import.aws_errors import AWS_ERRORS
from bulk_import.conf import FAILURES_STORAGE
from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import.models import TERMINAL_CHUNK_STATUSES
from bulk_import.models.row import line_at, unpack_lines
from bulk_import.storage.buckets import open_bucket
from bulk_import_wire.lines import failure_line, read_failure_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from bulk_import.models import ImportJob

logger = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024
"""Bytes read from S3 at a time. It limits the memory that a download needs, even if a chunk has many failures."""

PAGE_KEYS = 1000
"""Keys listed and deleted at a time: the maximum of S3."""


def read_failures(job: ImportJob) -> Iterator[bytes]:
    """Yield the failures of the chunks that have ended, in input order, one line of JSON each.

    Each has the `line` of its row in the user's file; None if the file has no lines.

    The failures of a chunk that is still processed are left out, because its rows may still be created.
    Raises Expired and StorageUnavailable.
    """
    check_failures_retained(job)
    ended = job.chunks.filter(status__in=TERMINAL_CHUNK_STATUSES).exclude(failures_key="")
    for key, first_index, packed in ended.order_by("number").values_list("failures_key", "first_index", "row_lines"):
        lines = unpack_lines(bytes(packed))
        for stored in read_failures_file(job, key):
            yield _with_line(stored, first_index, lines)


def _with_line(stored: bytes, first_index: int, lines: Sequence[int]) -> bytes:
    """Return a line of a failures file with the `line` of its row after its `index`."""
    known, row = read_failure_line(stored)
    index = known.pop("index")
    return failure_line({"index": index, "line": line_at(lines, index - first_index), **known}, row)


def read_failure(job: ImportJob, index: int) -> bytes | None:
    """Return the line of the row with this index, or None if the row was created or its chunk has not ended.

    Raises Expired and StorageUnavailable.
    """
    check_failures_retained(job)
    if index >= job.rows:  # also keeps numbers that are too large for the column out of the query
        return None
    chunk = job.chunks.filter(first_index__lte=index).order_by("-first_index").first()
    if chunk is None or chunk.status not in TERMINAL_CHUNK_STATUSES or not chunk.failures_key:
        return None
    with closing(read_failures_file(job, chunk.failures_key)) as stored:
        found = next((line for line in stored if read_failure_line(line)[0]["index"] == index), None)
    return found and _with_line(found, chunk.first_index, chunk.read_lines())


def stored_failures(job: ImportJob) -> Iterator[list[str]]:
    """Yield the keys of all the job's failures, at most PAGE_KEYS at a time, including those of superseded epochs.

    Raises StorageUnavailable.
    """
    storage, client = open_bucket(FAILURES_STORAGE)
    pages = client.get_paginator("list_objects_v2")
    try:
        for page in pages.paginate(Bucket=storage.bucket_name, Prefix=f"{job.pk}/", MaxKeys=PAGE_KEYS):
            if keys := [entry["Key"] for entry in page.get("Contents", [])]:
                yield keys
    except AWS_ERRORS as error:
        raise StorageUnavailable(f"S3 did not list the failures of job {job.pk}: {error}") from error


def delete_failures(keys: list[str]) -> None:
    """Delete at most PAGE_KEYS objects. Idempotent. Raises StorageUnavailable unless all of them are deleted."""
    storage, client = open_bucket(FAILURES_STORAGE)
    objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    try:
        answer = client.delete_objects(Bucket=storage.bucket_name, Delete=objects)
    except AWS_ERRORS as error:
        raise StorageUnavailable(f"S3 did not delete failures: {error}") from error
    if refused := answer.get("Errors"):
        raise StorageUnavailable(f"S3 did not delete failures: {refused[0]}")


def check_failures_retained(job: ImportJob) -> None:
    """Raise Expired if the failures of the job have expired."""
    if "failures" in job.expired:
        raise Expired(_("The failures of this import are no longer kept."))


def read_failures_file(job: ImportJob, key: str) -> Generator[bytes]:
    """Yield the lines of one failures file. Raises StorageUnavailable."""
    storage, client = open_bucket(FAILURES_STORAGE)
    try:
        with closing(client.get_object(Bucket=storage.bucket_name, Key=key)["Body"]) as body:
            yield from body.iter_lines(PIECE_BYTES, keepends=True)
    except AWS_ERRORS as error:
        logger.exception("S3 did not return the failures of job %s", job.pk)
        message = _("We cannot read the failures right now. Please try again later.")
        raise StorageUnavailable(message) from error
