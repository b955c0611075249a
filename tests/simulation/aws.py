"""Simulated S3 and SQS, with the methods, answers and errors of boto3's clients that the project uses."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from hashlib import md5
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import ClientError, EndpointConnectionError, IncompleteReadError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ_BYTES = 64 * 1024


def refuse(operation: str, status: int, code: str) -> NoReturn:
    """Raise the error of botocore for an answer with this status."""
    answer: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raise ClientError(answer, operation)


def fail(operation: str, kind: str) -> NoReturn:
    """Raise the error that botocore raises for this kind of failure."""
    if kind == "no connection":
        raise EndpointConnectionError(endpoint_url="https://aws.example")
    if kind == "no answer":
        raise ReadTimeoutError(endpoint_url="https://aws.example")
    refuse(operation, 503, "SlowDown")


class Body(io.BytesIO):
    """The body of an object: the methods of botocore's StreamingBody. It may break off."""

    def __init__(self, content: bytes, *, breaks_off: bool) -> None:
        super().__init__(content)
        self._breaks_at = len(content) // 2 if breaks_off else len(content) + 1

    def read(self, size: int | None = -1, /) -> bytes:
        if self._breaks_at <= len(self.getvalue()) and size in {None, -1}:
            raise IncompleteReadError(actual_bytes=self._breaks_at, expected_bytes=len(self.getvalue()))
        return super().read(size)

    def iter_chunks(self, chunk_size: int = READ_BYTES) -> Iterator[bytes]:
        content = self.getvalue()
        if self._breaks_at <= len(content):
            yield content[: self._breaks_at]
            raise IncompleteReadError(actual_bytes=self._breaks_at, expected_bytes=len(content))
        for first in range(0, len(content), chunk_size):
            yield content[first : first + chunk_size]

    def iter_lines(self, chunk_size: int = READ_BYTES, *, keepends: bool = False) -> Iterator[bytes]:  # noqa: ARG002 - boto's signature
        for piece in self.iter_chunks(len(self.getvalue()) + 1):
            yield from piece.splitlines(keepends=keepends)


@dataclass
class S3:
    """All buckets. `fault_of` names what goes wrong with a request: "" for nothing."""

    fault_of: Callable[[str], str]
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def put_object(self, *, Bucket: str, Key: str, Body: Any, IfNoneMatch: str = "", **_: Any) -> dict[str, Any]:
        fault = self._begin("PutObject")
        content = Body if isinstance(Body, bytes) else Body.read()
        if IfNoneMatch and (Bucket, Key) in self.objects:
            refuse("PutObject", 412, "PreconditionFailed")
        self.objects[Bucket, Key] = content
        self._end("PutObject", fault)
        return {"ETag": etag(content)}

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", IfMatch: str = "") -> dict[str, Any]:
        fault = self._begin("GetObject")
        content = self._existing("GetObject", Bucket, Key)
        found = etag(content)
        if IfMatch and IfMatch != found:
            refuse("GetObject", 412, "PreconditionFailed")
        if Range:
            first, last = map(int, Range.removeprefix("bytes=").split("-"))
            content = content[first : last + 1]
            if not content:
                refuse("GetObject", 416, "InvalidRange")
        self._end("GetObject", fault if fault != "breaks off" else "")
        return {"Body": _body(content, fault), "ETag": found}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self._end("HeadObject", self._begin("HeadObject"))
        return {"ETag": etag(self._existing("HeadObject", Bucket, Key))}

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        fault = self._begin("DeleteObject")
        self.objects.pop((Bucket, Key), None)
        self._end("DeleteObject", fault)
        return {}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        fault = self._begin("DeleteObjects")
        for entry in Delete["Objects"]:
            self.objects.pop((Bucket, entry["Key"]), None)
        self._end("DeleteObjects", fault)
        return {}

    def get_paginator(self, _name: str) -> Any:
        return self

    def paginate(self, *, Bucket: str, Prefix: str, **_: Any) -> Iterator[dict[str, Any]]:
        self._end("ListObjectsV2", self._begin("ListObjectsV2"))
        yield {"Contents": [{"Key": k} for b, k in sorted(self.objects) if b == Bucket and k.startswith(Prefix)]}

    def _existing(self, operation: str, bucket: str, key: str) -> bytes:
        if (bucket, key) not in self.objects:
            refuse(operation, 404, "NoSuchKey")
        return self.objects[bucket, key]

    def _begin(self, operation: str) -> str:
        """Return what goes wrong with this request after S3 has carried it out. Raises if it fails before."""
        fault = self.fault_of(operation)
        if fault in {"refused", "no connection"}:
            fail(operation, fault)
        return fault

    def _end(self, operation: str, fault: str) -> None:
        if fault:
            fail(operation, "no answer")


def _body(content: bytes, fault: str) -> Body:
    return Body(content, breaks_off=fault == "breaks off")


def etag(content: bytes) -> str:
    return f'"{md5(content).hexdigest()}"'  # noqa: S324 - S3's ETag
