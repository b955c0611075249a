"""A query that is not understood is refused, so that a mistyped dry run does not import the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from bulk_import.models import ImportJob
from tests.bulk_import.conftest import Aws, post_bytes, post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

ROW = b'[{"sku": "A", "name": "Tent", "price": "1.00", "currency": "EUR", "category": "tents"}]'


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("dryrun=true", "dryrun", "unknown"),
        ("DRY_RUN=true", "DRY_RUN", "unknown"),
        ("on-invalid=skip&dry_run=true", "on-invalid", "unknown"),
        ("dry_run=true&dry_run=false", "dry_run", "repeated"),
        ("%FF%FEd%00r%00y%00=1", None, "unknown"),
        ("cursor=1", "cursor", "unknown"),
    ],
)
def test_an_unknown_or_repeated_parameter_imports_nothing(
    client_of_merchandiser: APIClient, aws: Aws, query: str, field: str | None, code: str
) -> None:
    refused = post_rows(client_of_merchandiser, [product("A")], f"/products/bulk?{query}")

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")
    (error,) = refused.json()["errors"]
    assert error["code"] == code
    assert field is None or error["field"] == field
    assert not ImportJob.objects.exists()


def test_the_query_is_utf_8_whatever_the_charset_of_the_body(client_of_merchandiser: APIClient, aws: Aws) -> None:
    path = "/products/bulk?dry_run=true"

    answer = post_bytes(client_of_merchandiser, path, ROW, "application/json; charset=utf-16")

    assert (answer.status_code, answer.json()["rows"]) == (200, 1)
    assert not ImportJob.objects.exists()


@pytest.mark.parametrize("charset", ["hex", "rot13", "zlib", "no-such-charset", "undefined"])
def test_a_charset_that_decodes_no_text_is_400(client_of_merchandiser: APIClient, aws: Aws, charset: str) -> None:
    refused = post_bytes(client_of_merchandiser, "/products/bulk", ROW, f"application/json; charset={charset}")

    assert (refused.status_code, refused.json()["code"]) == (400, "unsupported_charset")
    assert not ImportJob.objects.exists()


def test_django_itself_fails_for_such_a_charset_and_a_query(client_of_merchandiser: APIClient, aws: Aws) -> None:
    """docs/api.md says so. Django builds the request before any middleware or view runs, so they cannot answer."""
    with pytest.raises(LookupError, match="is not a text encoding"):
        post_bytes(client_of_merchandiser, "/products/bulk?dry_run=true", ROW, "application/json; charset=hex")
    assert not ImportJob.objects.exists()


def test_an_unknown_format_is_an_error_of_this_parameter(client_of_merchandiser: APIClient, aws: Aws) -> None:
    job = post_rows(client_of_merchandiser, [product("A")]).json()["links"]["self"]

    for path in (f"{job}/results", f"{job}/failures", job):
        answer = client_of_merchandiser.get(f"{path}?format=xml")
        assert answer.status_code == 400, path
        (error,) = answer.json()["errors"]
        assert (error["field"], error["code"]) == ("format", "invalid_choice")
        assert "xml" in error["message"]


def test_every_endpoint_refuses_an_unknown_parameter(client_of_merchandiser: APIClient, aws: Aws) -> None:
    job = post_rows(client_of_merchandiser, [product("A")]).json()["links"]["self"]
    calls = [
        client_of_merchandiser.get("/products/bulk?page=2"),
        client_of_merchandiser.get(f"{job}?verbose=1"),
        client_of_merchandiser.head(f"{job}?verbose=1"),
        client_of_merchandiser.get(f"{job}/failures?parts=rows"),
        client_of_merchandiser.get(f"{job}/failures/0?part=rows"),
        client_of_merchandiser.post(f"{job}/retry?dry_run=true"),
        client_of_merchandiser.post(f"{job}/redrive?dry_run=true"),
        client_of_merchandiser.delete(f"{job}?dry_run=true"),
    ]

    assert [answer.status_code for answer in calls] == [400] * len(calls)
    assert ImportJob.objects.get().cancel_requested_at is None
    assert client_of_merchandiser.get(f"/products/bulk/{uuid4()}?format=json").status_code == 404
