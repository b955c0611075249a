"""The rows that were not created, as the worker wrote them to the failures bucket. Needs s3:GetObject.

The bucket's tree is drawn in `lambda_worker.failure_log`, which owns it; what a line holds is in the contract.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import storages
from django.utils.translation import gettext as _

from bulk_import.conf import FAILURES_STORAGE
from bulk_import.exceptions import StorageUnavailable
from bulk_import.models import ENDED
from lambda_worker.contract import read_failure_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from bulk_import.models import ImportJob

logger = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024
"""Read from S3 at a time: all that is in memory of a chunk's failures, whatever their size."""


def read_failures(job: ImportJob) -> Iterator[bytes]:
    """The failures of the chunks that have ended, in input order, a line of JSON at a time.

    Raises StorageUnavailable.
    """
    ended = job.chunks.filter(status__in=ENDED).exclude(failures_key="")
    for key in ended.order_by("number").values_list("failures_key", flat=True):
        yield from _read_lines(job, key)


def read_failure(job: ImportJob, index: int) -> bytes | None:
    """The line of one row; None when the row was created or has not ended. Raises StorageUnavailable."""
    if index >= job.rows:  # also what no column could hold
        return None
    chunk = job.chunks.filter(first_index__lte=index).order_by("-first_index").first()
    if chunk is None or chunk.status not in ENDED or not chunk.failures_key:
        return None
    with closing(_read_lines(job, chunk.failures_key)) as lines:
        return next((line for line in lines if read_failure_line(line)[0]["index"] == index), None)


def _read_lines(job: ImportJob, key: str) -> Generator[bytes]:
    storage: Any = storages[FAILURES_STORAGE]
    client = storage.connection.meta.client
    try:
        with closing(client.get_object(Bucket=storage.bucket_name, Key=key)["Body"]) as body:
            yield from body.iter_lines(PIECE_BYTES, keepends=True)
    except (BotoCoreError, ClientError) as error:
        logger.exception("S3 did not give the failures of job %s", job.pk)
        raise StorageUnavailable(_("The failures cannot be read right now. Please ask again.")) from error
