"""S3, called as an import calls it."""

from __future__ import annotations

import uuid
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import storages

from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE
from bulk_import.doctor.findings import DENIED, Finding, Level, aws_finding, code_of, skew

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_AWS_SKEW_SECONDS = 240  # SQS refuses what was signed five minutes ago
NO_BUCKET = {"NoSuchBucket"}
NO_OBJECT = {"NoSuchKey", "404"}


def examine_payloads() -> Iterator[Finding]:
    """Put as an import does, only where nothing is; look, delete as `bulk_import_expire` does."""
    bucket = _Bucket("payloads bucket", PAYLOADS_STORAGE)
    key = bucket.key(f"doctor/{uuid.uuid4()}")
    finding = bucket.attempt("put_object", "s3:PutObject", Key=key, Body=b"{}\n", IfNoneMatch="*")
    if finding:
        yield finding
        return
    yield from bucket.clock()
    try:
        twice = bucket.attempt("put_object", "s3:PutObject", Key=key, Body=b"[]\n", IfNoneMatch="*")
        if twice is None:
            yield bucket.error(
                "It takes If-None-Match for nothing: an object that was there was overwritten.",
                "Use an S3 that has conditional writes, as AWS's does.",
            )
        elif bucket.code != "PreconditionFailed":
            yield twice
        if finding := bucket.attempt("get_object", "s3:GetObject", Key=key):
            yield finding
    finally:
        finding = bucket.attempt("delete_object", "s3:DeleteObject", Key=key)
    yield finding or bucket.ok("Put where nothing is, look and delete work.")


def examine_failures() -> Iterator[Finding]:
    """List, read and delete, as downloads and `bulk_import_expire` do. Writing is the worker's right alone."""
    bucket = _Bucket("failures bucket", FAILURES_STORAGE)
    key = f"doctor/{uuid.uuid4()}"
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("list_objects_v2", "s3:ListBucket", {"Prefix": key, "MaxKeys": 1}),
        ("get_object", "s3:GetObject", {"Key": key}),
        ("delete_object", "s3:DeleteObject", {"Key": key}),
    ]
    is_well = True
    for operation, right, parameters in calls:
        finding = bucket.attempt(operation, right, **parameters)
        if finding and bucket.code not in NO_OBJECT:  # which is as it should be
            yield finding
            is_well = False
            if bucket.code not in DENIED:  # every call would say the same
                return
    if is_well:
        yield bucket.ok("List, read and delete work.")


class _Bucket:
    """One bucket; `code` is S3's for the last call that failed."""

    def __init__(self, subject: str, alias: str) -> None:
        self._subject = subject
        storage: Any = storages[alias]
        self._storage = storage
        self._client = storage.connection.meta.client
        self._headers: Mapping[str, str] = {}
        self.name = storage.bucket_name
        self.code = ""

    def key(self, name: str) -> str:
        """The name within the storage's `location`."""
        key: str = self._storage._normalize_name(name)  # noqa: SLF001 - the only way to honour it
        return key

    def attempt(self, operation: str, right: str, **parameters: Any) -> Finding | None:
        """Call S3. None when that worked."""
        self.code = ""
        try:
            answer = getattr(self._client, operation)(Bucket=self.name, **parameters)
        except (BotoCoreError, ClientError) as error:
            self.code = code_of(error)
            return self._finding(error, right)
        self._headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return None

    def _finding(self, error: Exception, right: str) -> Finding:
        if self.code in NO_BUCKET:
            return self.error(f"There is no bucket {self.name}.", "Make it, or mend bucket_name in STORAGES.")
        if self.code in DENIED:
            return self.error(
                f"AccessDenied: {right} is not allowed in {self.name}.",
                f"Allow {right} to the monolith's role, and see that the bucket's policy and KMS key allow it too.",
            )
        return aws_finding(self._subject, self.code, error)

    def clock(self) -> Iterator[Finding]:
        if date := self._headers.get("date"):
            yield skew("S3", parsedate_to_datetime(date), MAX_AWS_SKEW_SECONDS)

    def ok(self, message: str) -> Finding:
        return Finding(self._subject, Level.OK, message)

    def error(self, message: str, mend: str) -> Finding:
        return Finding(self._subject, Level.ERROR, message, mend)
