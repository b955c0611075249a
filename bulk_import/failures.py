"""The rows that were not created, as the worker wrote them to the failures bucket. Needs s3:GetObject.

The bucket's tree is drawn in `lambda_worker.failure_log`, which owns it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import storages
from django.utils.translation import gettext as _

from bulk_import.conf import FAILURES_STORAGE
from bulk_import.exceptions import StorageUnavailable
from bulk_import.models import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import.models import ImportJob

logger = logging.getLogger(__name__)


def read_failures(job: ImportJob) -> Iterator[bytes]:
    """The failures of the chunks that have ended as JSON Lines, in input order, a piece at a time.

    Raises StorageUnavailable, for the first piece at the call that asks for it.
    """
    storage: Any = storages[FAILURES_STORAGE]
    client = storage.connection.meta.client
    ended = job.chunks.filter(status__in=ENDED).exclude(failures_key="")
    keys = ended.order_by("number").values_list("failures_key", flat=True)
    for key in keys:
        try:
            yield from client.get_object(Bucket=storage.bucket_name, Key=key)["Body"].iter_chunks(64 * 1024)
        except (BotoCoreError, ClientError) as error:
            logger.exception("S3 did not give the failures of job %s", job.pk)
            raise StorageUnavailable(_("The failures cannot be read right now. Please ask again.")) from error
