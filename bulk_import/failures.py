"""The rows that were not created, as the worker wrote them to the failures bucket. Needs s3:GetObject.

The bucket's tree is drawn in `lambda_worker.failure_log`, which owns it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import storages

from bulk_import.conf import FAILURES_STORAGE
from bulk_import.exceptions import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import.models import ImportJob


def read_failures(job: ImportJob) -> Iterator[bytes]:
    """The failures of the finished chunks as JSON Lines, in input order, a piece at a time.

    Raises StorageUnavailable, for the first piece at the call that asks for it.
    """
    storage: Any = storages[FAILURES_STORAGE]
    client = storage.connection.meta.client
    keys = job.chunks.exclude(failures_key="").order_by("number").values_list("failures_key", flat=True)
    for key in keys:
        try:
            yield from client.get_object(Bucket=storage.bucket_name, Key=key)["Body"].iter_chunks(64 * 1024)
        except (BotoCoreError, ClientError) as error:
            raise StorageUnavailable("The failures could not be read.") from error
