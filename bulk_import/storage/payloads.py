"""The payload in S3: written once, never changed, read by byte range.

    <STORAGES["bulk_import_payloads"] bucket>/<its location>/
        <target>/<job id>.jsonl      one compact row a line

Needs s3:PutObject, s3:GetObject to look again after an answer was lost, and s3:DeleteObject for `retention`. A
payload whose job was never committed (killed between the two) is an orphan; the bucket's lifecycle rule removes it.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import storages
from django.utils.translation import gettext as _
from storages.utils import clean_name

from bulk_import.conf import PAYLOADS_STORAGE
from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import_wire.lines import read_refused_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO
    from uuid import UUID

    from bulk_import.models import ImportJob

logger = logging.getLogger(__name__)


PIECE_BYTES = 64 * 1024
"""Read from S3 at a time."""


@dataclass(frozen=True, slots=True)
class StoredPayload:
    bucket: str
    key: str
    etag: str


def read_payload(job: ImportJob) -> Iterator[bytes]:
    """The rows of the job as they were sent, a line of JSON at a time. Raises Expired, and StorageUnavailable."""
    if "payload" in job.expired:
        raise Expired(_("The rows of this import are no longer kept."))
    storage: Any = storages[PAYLOADS_STORAGE]
    try:
        with closing(
            storage.connection.meta.client.get_object(Bucket=job.payload_bucket, Key=job.payload_key)["Body"]
        ) as body:
            for line in body.iter_lines(PIECE_BYTES, keepends=True):
                refused = read_refused_line(line)
                yield refused[0] if refused else line
    except (BotoCoreError, ClientError) as error:
        logger.exception("S3 did not give the payload of job %s", job.pk)
        raise StorageUnavailable(_("The rows cannot be read right now. Please ask again.")) from error


def put_payload(target: str, job_id: UUID, payload: bytes | IO[bytes]) -> StoredPayload:
    """Store the payload of a job under its own key. Raises StorageUnavailable; then nothing counts as stored.

    The put is conditional: an object that is there already can only be this one, sent by a retry within boto3.
    """
    storage: Any = storages[PAYLOADS_STORAGE]
    client = storage.connection.meta.client
    name = f"{target}/{job_id}.jsonl"
    place = {"Bucket": storage.bucket_name, "Key": storage._normalize_name(clean_name(name))}  # noqa: SLF001 - the only way to honour the storage's `location`
    options = {"ContentType": "application/x-ndjson", **storage.get_object_parameters(name)}
    try:
        try:
            stored = client.put_object(**place, Body=payload, IfNoneMatch="*", **options)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.PRECONDITION_FAILED:
                raise
            stored = client.head_object(**place)
    except (BotoCoreError, ClientError) as error:
        logger.exception("S3 did not take a payload for %s", place["Bucket"])
        message = _("Our storage is not available right now, so nothing was imported. Please send it again.")
        raise StorageUnavailable(message) from error
    return StoredPayload(bucket=place["Bucket"], key=place["Key"], etag=stored["ETag"])


def delete_payload(job: ImportJob) -> None:
    """Delete the payload of a job. Again is harmless. Raises StorageUnavailable."""
    client: Any = storages[PAYLOADS_STORAGE].connection.meta.client  # type: ignore[attr-defined] # an S3 storage
    try:
        client.delete_object(Bucket=job.payload_bucket, Key=job.payload_key)
    except (BotoCoreError, ClientError) as error:
        raise StorageUnavailable(f"S3 does not delete the payload of job {job.pk}: {error}") from error
