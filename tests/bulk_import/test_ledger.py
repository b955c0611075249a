"""The create call of an imported row: product and ledger record together, once, as the submitter."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core import signing
from django.db import connection
from django.db.models.functions import Now
from django.db.models.signals import post_save
from rest_framework.test import APIClient

from bulk_import.authentication import TOKEN_SALT, ImportToken
from bulk_import.models import ImportChunk, ImportedRow, ImportJob
from lambda_worker.contract import ROW_HEADER, Claim
from products.models import Product
from tests.bulk_import.conftest import Aws, claim_body, make_user, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)


class Importer:
    """Calls the create endpoint as the worker that holds the claim does."""

    def __init__(self, worker: APIClient, aws: Aws) -> None:
        self.message = aws.messages()[0]
        path = f"/bulk-import/worker/chunks/{self.message.chunk_id}/claim"
        self.claim = Claim.from_dict(worker.post(path, claim_body(self.message), format="json").json())
        self.job = ImportJob.objects.get()

    def create(
        self, row: dict[str, Any], index: int = 0, *, path: str = "/products/", method: str = "POST", **headers: str
    ) -> Any:
        sent = {
            "Authorization": f"Import {self.claim.token}",
            "Idempotency-Key": f"{self.job.pk}:{index}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return APIClient().generic(method, path, json.dumps(row), content_type="application/json", headers=sent)


@pytest.fixture
def importer(client_of_merchandiser: APIClient, worker: APIClient, aws: Aws) -> Importer:
    """Holds the claim on a chunk of rows 0 to 2."""
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(3)])
    return Importer(worker, aws)


@pytest.fixture
def signal_error() -> Iterator[None]:
    """The shop's own code fails after it has saved."""

    def fail(**_signal: Any) -> None:
        raise RuntimeError("the shop's own bug")

    post_save.connect(fail, sender=Product)
    yield
    post_save.disconnect(fail, sender=Product)


def test_a_row_is_created_with_its_ledger_record(importer: Importer) -> None:
    answer = importer.create(product("A"))

    created = Product.objects.get()
    record = ImportedRow.objects.get()
    assert (answer.status_code, answer[ROW_HEADER]) == (201, "created")
    assert (record.job_id, record.index, record.object_id) == (importer.job.pk, 0, str(created.pk))


def test_the_same_key_again_is_answered_from_the_ledger(importer: Importer) -> None:
    first = importer.create(product("A")).json()
    again = importer.create(product("A"))

    assert (again.status_code, again[ROW_HEADER]) == (201, "replayed")
    assert again.json() == {"id": str(first["id"])}
    assert Product.objects.count() == 1


def test_the_same_key_with_another_body_is_422(importer: Importer) -> None:
    importer.create(product("A"))
    answer = importer.create(product("B"))

    assert (answer.status_code, answer[ROW_HEADER], answer.json()["code"]) == (422, "not-created", "key_reused")
    assert Product.objects.count() == 1


def test_twins_at_the_same_instant_create_one_product(importer: Importer) -> None:
    answers: list[Any] = []

    def call() -> None:
        try:
            answers.append(importer.create(product("A")))
        finally:
            connection.close()

    twins = [threading.Thread(target=call) for _ in range(6)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()

    assert sorted(answer[ROW_HEADER] for answer in answers) == ["created", *["replayed"] * 5]
    assert Product.objects.count() == 1


def test_a_refused_row_leaves_nothing_and_says_field_and_code(importer: Importer) -> None:
    answer = importer.create(product("A", category="kayaks"))

    assert (answer.status_code, answer[ROW_HEADER]) == (400, "not-created")
    assert answer.json() == {
        "errors": [
            {"field": "category", "code": "does_not_exist", "message": "Object with slug=kayaks does not exist."}
        ]
    }
    assert not ImportedRow.objects.exists()


def test_after_a_refusal_the_same_key_may_try_again(importer: Importer) -> None:
    importer.create(product("A", category="kayaks"))

    assert importer.create(product("A"))[ROW_HEADER] == "created"


def test_a_view_that_raises_after_saving_leaves_nothing(importer: Importer, signal_error: None) -> None:
    with pytest.raises(RuntimeError, match="the shop's own bug"):  # the test client raises what a server answers 500 to
        importer.create(product("A"))

    assert not Product.objects.exists()
    assert not ImportedRow.objects.exists()


def test_a_stale_epoch_creates_nothing(importer: Importer, worker: APIClient) -> None:
    ImportChunk.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    message = importer.message
    worker.post(f"/bulk-import/worker/chunks/{message.chunk_id}/claim", claim_body(message), format="json")
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[ROW_HEADER], answer.json()["code"]) == (409, "stale", "stale_epoch")
    assert not Product.objects.exists()


def test_a_finished_chunk_creates_nothing(importer: Importer) -> None:
    ImportChunk.objects.update(status="done")

    assert importer.create(product("A"))[ROW_HEADER] == "stale"
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("", 400),
        ("nonsense", 400),
        ("{job}:", 400),
        ("{job}:3", 403),
        ("{job}:-1", 403),
        (f"{uuid.UUID(int=1)}:0", 403),
    ],
)
def test_a_key_that_names_no_row_of_the_chunk_is_refused(importer: Importer, key: str, status: int) -> None:
    answer = importer.create(product("A"), Idempotency_Key=key.format(job=importer.job.pk))

    assert answer.status_code == status
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        signing.dumps([uuid.uuid4().hex, 1], salt="another purpose"),
        signing.dumps([uuid.uuid4().hex, 1], salt=TOKEN_SALT, key="another key"),
    ],
)
def test_a_token_that_is_not_ours_opens_nothing(importer: Importer, token: str) -> None:
    answer = importer.create(product("A"), Authorization=f"Import {token}")

    assert (answer.status_code, answer[ROW_HEADER]) == (401, "stale")
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/products/"), ("GET", "/admin/"), ("POST", "/products/bulk"), ("PUT", "/products/")],
)
def test_a_token_opens_the_create_endpoint_and_nothing_else(importer: Importer, method: str, path: str) -> None:
    answer = importer.create(product("A"), method=method, path=path)

    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_endpoint")


def test_a_token_signed_with_the_previous_key_goes_on(importer: Importer, settings: Settings) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "rotated"

    assert importer.create(product("A"))[ROW_HEADER] == "created"


def test_the_submitters_right_is_asked_for_every_row(importer: Importer, merchandiser: Any) -> None:
    importer.create(product("A"))
    merchandiser.user_permissions.clear()
    answer = importer.create(product("B"), 1)

    assert (answer.status_code, answer[ROW_HEADER]) == (403, "not-created")
    assert answer.json()["errors"][0]["code"] == "permission_denied"
    assert Product.objects.count() == 1


def test_a_disabled_submitter_creates_nothing(importer: Importer, merchandiser: Any) -> None:
    merchandiser.is_active = False
    merchandiser.save()
    answer = importer.create(product("A"))

    assert (answer.status_code, answer.json()["code"]) == (403, "submitter_disabled")


def test_a_deleted_submitter_creates_nothing(importer: Importer, merchandiser: Any) -> None:
    merchandiser.delete()

    assert importer.create(product("A")).json()["code"] == "submitter_disabled"


def test_a_throttled_row_may_come_again(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", {"products": "1/hour"})
    importer.create(product("A"))
    answer = importer.create(product("B"), 1)

    assert (answer.status_code, answer[ROW_HEADER]) == (429, "not-created")
    assert int(answer["Retry-After"]) > 0


def test_a_request_without_an_import_token_is_the_shops_own(importer: Importer, merchandiser: Any) -> None:
    client = APIClient(headers={"Idempotency-Key": f"{importer.job.pk}:0"})
    client.force_login(merchandiser)
    answer = client.post("/products/", product("A"), format="json")

    assert answer.status_code == 201
    assert ROW_HEADER not in answer
    assert not ImportedRow.objects.exists()


def test_a_token_of_one_chunk_does_not_open_another(importer: Importer) -> None:
    other = make_user("other", "add_product")
    job = ImportJob.objects.create(target="products", submitter=other, rows=1, language="en")
    chunk = ImportChunk.objects.create(
        job=job, number=0, first_index=0, row_count=1, first_byte=0, byte_count=2, status="processing", epoch=1
    )
    answer = importer.create(product("A"), Authorization=f"Import {ImportToken(chunk.pk, 1).sign()}")

    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_row")
