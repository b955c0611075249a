"""Reads the rows of one chunk: a byte range of the payload, as long as the payload has not changed.

Needs s3:GetObject on the payloads bucket.
"""

from __future__ import annotations

import logging
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lambda_worker.aws_errors import AWS_ERRORS
from lambda_worker.exceptions import ChunkReturned, MessageRefused, PayloadLost

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from bulk_import_wire.message import ChunkMessage

logger = logging.getLogger(__name__)

LOST = {HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
"""Statuses with which S3 says that the object is missing or has been replaced.

403 is not one of them, because a retry can succeed: an operator may add the missing permission.
"""

MAX_READS = 5
"""Maximum number of reads. A read that breaks off is resumed at the position that it reached."""

READ_BYTES = 256 * 1024
"""Number of bytes that are read from the connection at once."""


def check_own_bucket(bucket: str, message: ChunkMessage) -> None:
    """Raise MessageRefused if the message names another bucket than the worker's own."""
    if message.bucket != bucket:
        raise MessageRefused("The message names a bucket that is not this worker's.")


def read_rows(s3: S3Client, bucket: str, message: ChunkMessage) -> list[bytes]:
    """Return the chunk's lines in order. A line is the body of a create call, unless it is a refused line.

    Raises MessageRefused if the message names another bucket than the worker's own, PayloadLost if the object is
    missing, has changed or does not have the size in the message, and ChunkReturned if it cannot be read now.
    """
    check_own_bucket(bucket, message)
    data = bytearray()
    for _read in range(MAX_READS):
        try:
            _read_rest(s3, message, data)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            failure = PayloadLost if status in LOST else ChunkReturned
            raise failure(f"The payload cannot be read. S3 returned {code}.") from error
        except AWS_ERRORS as error:
            logger.warning("The read of chunk %s broke off: %s", message.chunk_id, type(error).__name__)
        else:
            break
    else:
        raise ChunkReturned("The payload cannot be read. Every read broke off.")
    if len(data) != message.byte_count:
        raise PayloadLost(f"The payload does not match the message: {len(data)} of {message.byte_count} bytes.")
    rows = bytes(data).split(b"\n")
    if rows.pop() != b"" or len(rows) != message.row_count:
        raise PayloadLost(f"The payload does not match the message: {len(rows)} of {message.row_count} rows.")
    return rows


def _read_rest(s3: S3Client, message: ChunkMessage, data: bytearray) -> None:
    """Read the bytes of the chunk that are not in `data` yet, and append them. Raises the exceptions of boto3.

    If-Match makes S3 refuse the read if the object has changed since the chunk was created.
    """
    first = message.first_byte + len(data)
    last = message.first_byte + message.byte_count - 1
    if first > last:
        return
    stored = s3.get_object(Bucket=message.bucket, Key=message.key, Range=f"bytes={first}-{last}", IfMatch=message.etag)
    with closing(stored["Body"]) as body:
        for piece in body.iter_chunks(READ_BYTES):
            data += piece
            # A store that ignores Range would send the whole payload. Do not read all of that into memory.
            if len(data) > message.byte_count:
                return
