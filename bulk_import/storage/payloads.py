"""The payloads bucket: stores, reads and deletes the rows of a job.

    <bucket of STORAGES["bulk_import_payloads"]>/<its location>/
        <target>/<job id>.jsonl      one row per line, as it was sent

A payload is written once and never changed. Workers read byte ranges of it. Needs s3:PutObject, s3:GetObject
(also for the HEAD request in `put_payload`), and s3:DeleteObject for `retention`.

The payload is stored before its job is committed. If the process dies in between, the payload has no job, and the
bucket's lifecycle rule deletes it.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from django.utils.translation import gettext as _
from storages.utils import clean_name

from bulk_import.aws_errors import AWS_ERRORS
from bulk_import.conf import PAYLOADS_STORAGE
from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import.storage.buckets import open_bucket
from bulk_import_wire.lines import read_refused_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO
    from uuid import UUID

    from bulk_import.models import ImportJob

logger = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024
"""Bytes read from S3 at a time."""


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """Where a payload is, and the ETag by which a worker recognizes it."""

    bucket: str
    key: str
    etag: str

    def columns(self) -> dict[str, str]:
        """Return the values for the columns of a job."""
        return {"payload_bucket": self.bucket, "payload_key": self.key, "payload_etag": self.etag}


def read_payload(job: ImportJob) -> Iterator[bytes]:
    """Yield the rows of the job as they were sent, one line of JSON each. Raises Expired and StorageUnavailable."""
    for line in read_payload_lines(job):
        refused = read_refused_line(line)
        yield refused[0] if refused else line


def read_payload_lines(job: ImportJob) -> Iterator[bytes]:
    """Yield the lines of the payload, with the errors of refused rows. Raises Expired and StorageUnavailable."""
    if "payload" in job.expired:
        raise Expired(_("The rows of this import are no longer kept."))
    _storage, client = open_bucket(PAYLOADS_STORAGE)
    try:
        with closing(client.get_object(Bucket=job.payload_bucket, Key=job.payload_key)["Body"]) as body:
            yield from body.iter_lines(PIECE_BYTES, keepends=True)
    except AWS_ERRORS as error:
        logger.exception("S3 did not return the payload of job %s", job.pk)
        raise StorageUnavailable(_("We cannot read the rows right now. Please try again later.")) from error


def put_payload(target: str, job_id: UUID, payload: bytes | IO[bytes]) -> StoredPayload:
    """Store the payload of a job under the job's own key. Do not create the job if this raises StorageUnavailable.

    boto3 retries a put whose response was lost. The put is conditional (If-None-Match), so the retry does not write a
    second time but gets the status 412. The key contains a new random ID, so the object under this key can only be
    this payload.
    """
    storage, client = open_bucket(PAYLOADS_STORAGE)
    name = f"{target}/{job_id}.jsonl"
    place = {"Bucket": storage.bucket_name, "Key": storage._normalize_name(clean_name(name))}  # noqa: SLF001 - the only way to apply the storage's `location`
    options = {"ContentType": "application/x-ndjson", **storage.get_object_parameters(name)}
    try:
        try:
            stored = client.put_object(**place, Body=payload, IfNoneMatch="*", **options)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.PRECONDITION_FAILED:
                raise
            stored = client.head_object(**place)
    except AWS_ERRORS as error:
        logger.exception("S3 did not store a payload in %s", place["Bucket"])
        message = _("Our storage is not available right now. Nothing was imported. Please send the rows again later.")
        raise StorageUnavailable(message) from error
    return StoredPayload(bucket=place["Bucket"], key=place["Key"], etag=stored["ETag"])


def delete_payload(job: ImportJob) -> None:
    """Delete the payload of a job. Idempotent. Raises StorageUnavailable."""
    _storage, client = open_bucket(PAYLOADS_STORAGE)
    try:
        client.delete_object(Bucket=job.payload_bucket, Key=job.payload_key)
    except AWS_ERRORS as error:
        raise StorageUnavailable(f"S3 did not delete the payload of job {job.pk}: {error}") from error
