"""Examines the two S3 buckets with the calls that an import makes."""

from __future__ import annotations

import uuid
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from django.core.files.storage import storages

from bulk_import.aws_errors import AWS_ERRORS
from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE
from bulk_import.doctor.findings import DENIED, aws_finding, code_of, compare_clocks
from bulk_import_wire.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_AWS_CLOCK_OFFSET_SECONDS = 240
"""Largest accepted offset from AWS's clock. SQS refuses a request whose signature is 300 s old."""

NO_BUCKET = {"NoSuchBucket"}
NO_OBJECT = {"NoSuchKey", "404"}


def examine_payloads() -> Iterator[Finding]:
    """Write an object conditionally as an import does, read it, and delete it as `bulk_import_expire` does.

    The second conditional write must fail. An S3 service that ignores the condition would overwrite the payload of
    another import.
    """
    bucket = _Bucket("payloads bucket", PAYLOADS_STORAGE)
    key = bucket.key(f"doctor/{uuid.uuid4()}")
    finding = bucket.attempt("put_object", "s3:PutObject", Key=key, Body=b"{}\n", IfNoneMatch="*")
    if finding:
        yield finding
        return
    yield from bucket.examine_clock()
    try:
        second_write = bucket.attempt("put_object", "s3:PutObject", Key=key, Body=b"[]\n", IfNoneMatch="*")
        if second_write is None:
            yield bucket.error(
                "The storage ignores If-None-Match: it overwrote an object that already existed.",
                "Use an S3 service that supports conditional writes, as AWS S3 does.",
            )
        elif bucket.code != "PreconditionFailed":
            yield second_write
        if finding := bucket.attempt("get_object", "s3:GetObject", Key=key):
            yield finding
    finally:
        finding = bucket.attempt("delete_object", "s3:DeleteObject", Key=key)
    yield finding or bucket.ok("Conditional write, read and delete work.")


def examine_failures() -> Iterator[Finding]:
    """List, read and delete as downloads and `bulk_import_expire` do. Only the worker may write to this bucket."""
    bucket = _Bucket("failures bucket", FAILURES_STORAGE)
    key = f"doctor/{uuid.uuid4()}"
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("list_objects_v2", "s3:ListBucket", {"Prefix": key, "MaxKeys": 1}),
        ("get_object", "s3:GetObject", {"Key": key}),
        ("delete_object", "s3:DeleteObject", {"Key": key}),
    ]
    has_failed = False
    for operation, permission, parameters in calls:
        finding = bucket.attempt(operation, permission, **parameters)
        if finding and bucket.code not in NO_OBJECT:  # the object does not exist, so "not found" is a success
            yield finding
            has_failed = True
            if bucket.code not in DENIED:
                return  # the other calls would fail for the same reason
    if not has_failed:
        yield bucket.ok("List, read and delete work.")


class _Bucket:
    """One bucket. `code` is the error code of the last call, or "" if that call succeeded."""

    def __init__(self, subject: str, alias: str) -> None:
        self._subject = subject
        storage: Any = storages[alias]
        self._storage = storage
        self._client = storage.connection.meta.client
        self._headers: Mapping[str, str] = {}
        self.name = storage.bucket_name
        self.code = ""

    def key(self, name: str) -> str:
        """Return the name within the storage's `location`."""
        key: str = self._storage._normalize_name(name)  # noqa: SLF001 - the storage has no public way to add its location
        return key

    def attempt(self, operation: str, permission: str, **parameters: Any) -> Finding | None:
        """Call S3. Return None if that succeeded, and otherwise a finding."""
        self.code = ""
        try:
            answer = getattr(self._client, operation)(Bucket=self.name, **parameters)
        except AWS_ERRORS as error:
            self.code = code_of(error)
            return self._finding(error, permission)
        self._headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return None

    def _finding(self, error: Exception, permission: str) -> Finding:
        if self.code in NO_BUCKET:
            return self.error(
                f"The bucket {self.name} does not exist.", "Create it, or correct bucket_name in STORAGES."
            )
        if self.code in DENIED:
            return self.error(
                f"AccessDenied: {permission} is not allowed in {self.name}.",
                f"Allow {permission} for the monolith's role. Check that the bucket policy and the KMS key allow it.",
            )
        return aws_finding(self._subject, self.code, error)

    def examine_clock(self) -> Iterator[Finding]:
        """Compare the clock with the Date header of the last successful call."""
        if date := self._headers.get("date"):
            yield compare_clocks("S3", parsedate_to_datetime(date), MAX_AWS_CLOCK_OFFSET_SECONDS)

    def ok(self, message: str) -> Finding:
        return Finding(self._subject, Level.OK, message)

    def error(self, message: str, fix: str) -> Finding:
        return Finding(self._subject, Level.ERROR, message, fix)
