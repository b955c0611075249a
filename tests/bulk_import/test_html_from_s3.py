"""A proxy in front of S3 that responds with HTML counts as an S3 that is unavailable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.parsers import ResponseParserError

from bulk_import.exceptions import StorageUnavailable
from bulk_import.models import ImportJob
from bulk_import.storage import failures, payloads
from bulk_import.storage.buckets import open_bucket

if TYPE_CHECKING:
    from collections.abc import Callable


class HtmlClient:
    """A client of S3 that cannot parse any response."""

    def __getattr__(self, name: str) -> Any:
        def call(**_options: Any) -> None:
            raise ResponseParserError("<html>")

        return call

    def get_paginator(self, _name: str) -> Any:
        return self


@pytest.mark.parametrize(
    "call",
    [
        lambda job: payloads.put_payload(job.target, job.pk, b"{}\n"),
        lambda job: list(payloads.read_payload(job)),
        payloads.delete_payload,
        lambda job: list(failures.read_failures_file(job, "key")),
        lambda job: list(failures.stored_failures(job)),
        lambda job: failures.delete_failures([str(job.pk)]),
    ],
    ids=["put payload", "read payload", "delete payload", "read failures", "list failures", "delete failures"],
)
def test_html_instead_of_a_response_of_s3(call: Callable[[ImportJob], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (payloads, failures):
        monkeypatch.setattr(module, "open_bucket", lambda alias: (open_bucket(alias)[0], HtmlClient()))

    with pytest.raises(StorageUnavailable):
        call(ImportJob(target="products"))
