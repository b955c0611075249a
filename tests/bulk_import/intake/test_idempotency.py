"""A request that is sent twice with the same Idempotency-Key creates one job."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from rest_framework.test import APIClient

from bulk_import.models import ImportChunk, ImportJob
from tests.bulk_import import second_target
from tests.bulk_import.conftest import Aws, make_user, post_bytes, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

PATH = "/products/bulk"
REQUESTS = 4


def post_with_key(client: APIClient, rows: Any, key: str | None, path: str = PATH) -> Any:
    return post_rows(client, rows, path, headers={} if key is None else {"Idempotency-Key": key})


def client_of(user: Any) -> APIClient:
    client = APIClient()
    client.force_login(user)
    return client


@pytest.mark.django_db(transaction=True)
def test_the_same_request_twice_creates_one_job(client_of_merchandiser: APIClient, aws: Aws) -> None:
    first, second = (post_with_key(client_of_merchandiser, [product("A")], "key") for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 202)
    assert first["Location"] == second["Location"]
    assert first.json() == second.json()
    assert ImportJob.objects.count() == len(aws.payload_keys()) == len(aws.messages()) == 1


def test_the_repeated_response_has_the_current_status_of_the_job(client_of_merchandiser: APIClient, aws: Aws) -> None:
    post_with_key(client_of_merchandiser, [product("A")], "key")
    ImportJob.objects.update(status="succeeded")

    assert post_with_key(client_of_merchandiser, [product("A")], "key").json()["status"] == "succeeded"


def test_without_a_key_the_same_request_twice_creates_two_jobs(client_of_merchandiser: APIClient, aws: Aws) -> None:
    for _ in range(2):
        assert post_with_key(client_of_merchandiser, [product("A")], None).status_code == 202
    assert ImportJob.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_identical_requests_at_the_same_time_create_one_job(merchandiser: Any, aws: Aws) -> None:
    """Each of them may store a payload, but only one creates a job, and all responses name this job."""
    barrier = Barrier(REQUESTS)
    clients = [client_of(merchandiser) for _ in range(REQUESTS)]

    def send(client: APIClient) -> tuple[int, str]:
        barrier.wait()
        try:
            answer = post_with_key(client, [product("A"), product("B")], "key")
            return answer.status_code, answer["Location"]
        finally:
            connection.close()

    with ThreadPoolExecutor(REQUESTS) as threads:
        answers = set(threads.map(send, clients))
    job = ImportJob.objects.get()
    assert answers == {(202, f"http://testserver{PATH}/{job.pk}")}
    assert ImportChunk.objects.count() == 1
    assert {message.job_id for message in aws.messages()} == {str(job.pk)}
    assert job.payload_key in aws.payload_keys()


@pytest.mark.django_db(transaction=True)
def test_different_requests_with_one_key_at_the_same_time_create_one_job_and_a_422(merchandiser: Any, aws: Aws) -> None:
    barrier = Barrier(2)
    clients = [client_of(merchandiser) for _ in range(2)]

    def send(client: APIClient, sku: str) -> int:
        barrier.wait()
        try:
            status: int = post_with_key(client, [product(sku)], "key").status_code
            return status
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(send, clients, ["A", "B"])) == [202, 422]
    assert ImportJob.objects.count() == 1


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        ([product("B")], PATH),
        ([product("A"), product("B")], PATH),
        (json.dumps([product("A")], indent=1).encode(), PATH),
        ([product("A")], f"{PATH}?on_invalid=skip"),
        ([product("A")], f"{PATH}?dry_run=true"),
    ],
    ids=["other row", "more rows", "other bytes", "other option", "dry run"],
)
def test_the_same_key_with_another_request_is_422(
    client_of_merchandiser: APIClient, aws: Aws, rows: Any, path: str
) -> None:
    post_with_key(client_of_merchandiser, [product("A")], "key")
    answer = post_with_key(client_of_merchandiser, rows, "key", path)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert ImportJob.objects.count() == len(aws.payload_keys()) == 1


def test_the_same_key_at_another_host_is_422(client_of_merchandiser: APIClient, aws: Aws, settings: Settings) -> None:
    """Another host may belong to another tenant. Its rows must not be taken for those of the first one."""
    settings.ALLOWED_HOSTS = ["north.example", "south.example"]
    extra: Any = {"format": "json", "HTTP_IDEMPOTENCY_KEY": "key"}
    hosts = ["north.example", "south.example", "north.example"]
    answers = [client_of_merchandiser.post(PATH, [product("A")], **extra, HTTP_HOST=host) for host in hosts]

    assert [answer.status_code for answer in answers] == [202, 422, 202]
    assert ImportJob.objects.get().host == "north.example"


def test_the_same_body_as_another_content_type_is_422(client_of_merchandiser: APIClient, aws: Aws) -> None:
    headers = {"Idempotency-Key": "key"}
    body = json.dumps(product("A")).encode()
    post_bytes(client_of_merchandiser, PATH, body, "application/x-ndjson", headers)
    answer = post_bytes(client_of_merchandiser, PATH, body, "application/json", headers)

    assert answer.status_code == 422


def test_the_same_file_in_a_form_is_the_same_request(client_of_merchandiser: APIClient, aws: Aws) -> None:
    """The boundary of the form differs each time, but the file is the same."""
    body = json.dumps([product("A")]).encode()
    for boundary in ("one", "two"):
        file = SimpleUploadedFile("rows.json", body)
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="{file.name}"\r\n\r\n'
        form = part.encode() + body + f"\r\n--{boundary}--\r\n".encode()
        content_type = f"multipart/form-data; boundary={boundary}"
        headers = {"Idempotency-Key": "key"}
        answer = post_bytes(client_of_merchandiser, PATH, form, content_type, headers)
        assert answer.status_code == 202

    assert ImportJob.objects.count() == 1


def test_the_same_key_of_another_user_creates_another_job(client_of_merchandiser: APIClient, aws: Aws) -> None:
    rival = client_of(make_user("rival", "add_product"))
    answers = [post_with_key(client, [product("A")], "key") for client in (client_of_merchandiser, rival)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0]["Location"] != answers[1]["Location"]


def test_the_same_key_for_another_target_creates_another_job(shop: None, aws: Aws, settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.bulk_import.second_target"
    targets = {**settings.BULK_IMPORT["TARGETS"], **second_target.TARGETS}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": targets}
    client = client_of(make_user("merchandiser", "add_product", "add_category"))

    assert post_with_key(client, [product("A")], "key").status_code == 202
    answer = post_with_key(client, [{"slug": "stoves", "name": "Stoves"}], "key", "/categories/bulk")
    assert answer.status_code == 202
    assert sorted(ImportJob.objects.values_list("target", flat=True)) == ["categories", "products"]


def test_a_missing_key_is_400_if_a_key_is_required(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "REQUIRE_IDEMPOTENCY_KEY": True}
    answer = post_with_key(client_of_merchandiser, [product("A")], None)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")
    assert post_with_key(client_of_merchandiser, [product("A")], "key").status_code == 202


@pytest.mark.parametrize("key", ["", " ", '""', '"""', '" "'])
def test_an_empty_key_is_400_even_if_no_key_is_required(client_of_merchandiser: APIClient, key: str) -> None:
    answer = post_with_key(client_of_merchandiser, [product("A")], key)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")


def test_quotation_marks_are_not_part_of_the_key(client_of_merchandiser: APIClient, aws: Aws) -> None:
    first, second = (post_with_key(client_of_merchandiser, [product("A")], key) for key in ('"key"', "key"))

    assert first["Location"] == second["Location"]


@pytest.mark.parametrize("key", ["k" * 256, "schlüssel", "a\tb"])
def test_a_key_too_long_or_not_printable_ascii_is_400(client_of_merchandiser: APIClient, key: str) -> None:
    answer = post_with_key(client_of_merchandiser, [product("A")], key)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_malformed")


def test_a_key_of_255_characters_is_accepted(client_of_merchandiser: APIClient, aws: Aws) -> None:
    assert post_with_key(client_of_merchandiser, [product("A")], "k" * 255).status_code == 202


@pytest.mark.parametrize("rows", [[product("A", price="cheap")], b"[", []], ids=["invalid", "malformed", "empty"])
def test_a_refused_request_does_not_use_up_its_key(client_of_merchandiser: APIClient, aws: Aws, rows: Any) -> None:
    assert post_with_key(client_of_merchandiser, rows, "key").status_code == 400
    assert post_with_key(client_of_merchandiser, [product("A")], "key").status_code == 202


def test_a_503_does_not_use_up_the_key(client_of_merchandiser: APIClient, aws: Aws, settings: Settings) -> None:
    """The client can repeat the same request after the Retry-After."""
    storages = settings.STORAGES
    payloads = storages["bulk_import_payloads"]
    options = {**payloads["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = {**storages, "bulk_import_payloads": {**payloads, "OPTIONS": options}}
    assert post_with_key(client_of_merchandiser, [product("A")], "key").status_code == 503

    settings.STORAGES = storages
    assert post_with_key(client_of_merchandiser, [product("A")], "key").status_code == 202
    assert ImportJob.objects.count() == 1


def test_a_dry_run_does_not_use_up_its_key(client_of_merchandiser: APIClient, aws: Aws) -> None:
    assert post_with_key(client_of_merchandiser, [product("A")], "key", f"{PATH}?dry_run=true").status_code == 200
    assert post_with_key(client_of_merchandiser, [product("A")], "key").status_code == 202
