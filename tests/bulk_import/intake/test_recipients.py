"""The parameter `notify` names who gets emails in addition to the submitter, within the allowed domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from bulk_import.models import ImportJob
from tests.bulk_import.conftest import Aws, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]

SUBMITTER = "merchandiser@shop.example"
PROMISE = "We will email you when it is done."


@pytest.fixture(autouse=True)
def _own_domains(settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "NOTIFY_DOMAINS": ["shop.example", "Office.example"]}


def post(client: APIClient, notify: str, **extra: Any) -> Any:
    return post_rows(client, [product("A")], f"/products/bulk?notify={quote(notify)}", **extra)


@pytest.mark.parametrize(
    ("notify", "recipients"),
    [
        ("ana@shop.example", [SUBMITTER, "ana@shop.example"]),
        ("ana@shop.example, bo@office.EXAMPLE", [SUBMITTER, "ana@shop.example", "bo@office.EXAMPLE"]),
        ("ana@shop.example,ANA@shop.example", [SUBMITTER, "ANA@shop.example"]),
        ("Merchandiser@shop.example", [SUBMITTER]),
        ("a+b@shop.example", [SUBMITTER, "a+b@shop.example"]),
        ("none", []),
    ],
)
def test_the_job_stores_its_recipients(
    notify: str, recipients: list[str], client_of_merchandiser: APIClient, aws: Aws
) -> None:
    answer = post(client_of_merchandiser, notify)

    assert answer.status_code == 202
    assert ImportJob.objects.get().recipients == recipients
    assert (PROMISE in answer.json()["message"]) is bool(recipients)


def test_without_the_parameter_the_submitter_is_the_only_recipient(client_of_merchandiser: APIClient, aws: Aws) -> None:
    post_rows(client_of_merchandiser, [product("A")])

    assert ImportJob.objects.get().recipients == [SUBMITTER]


@pytest.mark.parametrize(
    ("notify", "code"),
    [
        ("", "invalid_address"),
        (",", "invalid_address"),
        ("ana", "invalid_address"),
        ("none,ana@shop.example", "invalid_address"),
        ("ana@shop.example,", "invalid_address"),
        ("Ana <ana@shop.example>", "invalid_address"),
        ('"a;b"@shop.example', "invalid_address"),
        ("aná@shop.example", "invalid_address"),
        ("a" * 250 + "@shop.example", "invalid_address"),
        ("ana@shop.example\r\nBcc: bo@elsewhere.example", "invalid_address"),
        ("ana\n@shop.example", "invalid_address"),
        ("ana@shop.example\0", "invalid_address"),
        ("ana@elsewhere.example", "domain_not_allowed"),
        ("ana@sub.shop.example", "domain_not_allowed"),
        ("ana@shop.example.evil.example", "domain_not_allowed"),
        ("ana@[127.0.0.1]", "domain_not_allowed"),
        (",".join(f"p{n}@shop.example" for n in range(6)), "too_many_addresses"),
    ],
)
def test_an_address_that_is_not_allowed_is_an_invalid_parameter(
    notify: str, code: str, client_of_merchandiser: APIClient, aws: Aws
) -> None:
    answer = post(client_of_merchandiser, notify)

    assert answer.status_code == 400
    document = answer.json()
    assert document["code"] == "invalid_parameter"
    assert [(error["field"], error["code"]) for error in document["errors"]] == [("notify", code)]
    assert not ImportJob.objects.exists()


def test_by_default_no_other_address_is_allowed(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    """Not even addresses of the submitter's own domain, which may belong to an email provider."""
    settings.BULK_IMPORT = {name: value for name, value in settings.BULK_IMPORT.items() if name != "NOTIFY_DOMAINS"}

    assert post(client_of_merchandiser, "ana@shop.example").json()["errors"][0]["code"] == "domain_not_allowed"
    assert post(client_of_merchandiser, "none").status_code == 202
    assert post(client_of_merchandiser, SUBMITTER).status_code == 202


def test_the_same_key_with_other_recipients_is_a_different_request(client_of_merchandiser: APIClient, aws: Aws) -> None:
    headers = {"Idempotency-Key": "k"}
    answers = [post(client_of_merchandiser, notify, headers=headers) for notify in ("none", "none", "ana@shop.example")]

    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert answers[0].json()["id"] == answers[1].json()["id"]
