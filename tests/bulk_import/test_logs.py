"""Log lines and traces of the monolith say which job, chunk, epoch, row and request they are about."""

from __future__ import annotations

import json
import logging
import re
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models.signals import post_save
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import TracerProvider
from rest_framework.test import APIClient

from bulk_import.models import ImportJob
from bulk_import_wire.logs import JsonFormatter, LogContextFilter
from products.models import Product
from tests.bulk_import.conftest import Aws, call, claim, finish, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import_wire.contract import Claim

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def traces_on_queue(aws: Aws) -> list[str | None]:
    """Return the trace context of each message, None for a message without one."""
    answer = aws.sqs.receive_message(
        QueueUrl=aws.queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["traceparent"]
    )
    found = [message.get("MessageAttributes", {}).get("traceparent") for message in answer["Messages"]]
    return [attribute["StringValue"] if attribute else None for attribute in found]


@pytest.fixture
def lines() -> Iterator[Any]:
    """A function that returns the lines logged so far, parsed from the JSON that the production settings write."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(LogContextFilter())
    handler.setFormatter(JsonFormatter())
    root, app = logging.getLogger(), logging.getLogger("bulk_import")
    level = app.level
    root.addHandler(handler)
    app.setLevel(logging.INFO)
    yield lambda: list(map(json.loads, stream.getvalue().splitlines()))
    app.setLevel(level)
    root.removeHandler(handler)


def test_each_message_carries_the_trace_of_the_post(client_of_merchandiser: APIClient, aws: Aws) -> None:
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(4)], headers={"traceparent": TRACEPARENT})

    assert traces_on_queue(aws) == [TRACEPARENT, TRACEPARENT]


def test_with_opentelemetry_each_message_carries_the_trace_of_the_view(
    client_of_merchandiser: APIClient, aws: Aws
) -> None:
    carrier: dict[str, str] = {}
    with TracerProvider().get_tracer(__name__).start_as_current_span("POST /products/bulk"):
        inject(carrier)
        post_rows(client_of_merchandiser, [product("A")], headers={"traceparent": TRACEPARENT})

    assert traces_on_queue(aws) == [carrier["traceparent"]]


@pytest.mark.parametrize("header", [None, "", "something else", TRACEPARENT + "-more", "00-" + "0" * 32 + "-12-01"])
def test_a_message_carries_no_trace_when_the_post_has_no_valid_one(
    client_of_merchandiser: APIClient, aws: Aws, header: str | None
) -> None:
    answer = post_rows(
        client_of_merchandiser, [product("A")], headers={} if header is None else {"traceparent": header}
    )

    assert answer.status_code == 202
    assert traces_on_queue(aws) == [None]


def test_the_log_follows_an_import_from_the_post_to_its_end(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, lines: Any
) -> None:
    headers = {"traceparent": TRACEPARENT, "X-Request-ID": "the-post"}
    post_rows(client_of_merchandiser, [product("TENT", name="TENT")], headers=headers)
    (message,) = aws.messages()
    got = claim(worker, message)
    call(worker, "finish", message, finish(got.epoch, failed=1))

    about_import = {"job_id": message.job_id}
    about_chunk = {**about_import, "chunk_id": message.chunk_id, "epoch": 1}
    accepted, claimed, ended, finished = lines()
    assert accepted.items() >= {**about_import, "request_id": "the-post", "trace_id": TRACE_ID}.items()
    assert claimed.items() >= about_chunk.items()
    assert ended.items() >= about_chunk.items()
    assert finished.items() >= about_chunk.items()
    assert ended["message"] == f"Job {message.job_id}: ended (failed)"
    assert "TENT" not in json.dumps(lines())


def test_log_lines_of_the_targets_own_code_say_which_row_they_are_about(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, lines: Any
) -> None:
    def log(**_signal: Any) -> None:
        logging.getLogger("shop").warning("The warehouse does not answer", extra={"job_id": "the shop's own"})

    post_rows(client_of_merchandiser, [product("A"), product("B")])
    (message,) = aws.messages()
    got: Claim = claim(worker, message)
    post_save.connect(log, sender=Product)
    try:
        create(APIClient(), got.token, f"{message.job_id}:1", product("B"))  # a worker has no session
        client_of_merchandiser.post("/products/", product("C"), format="json")
    finally:
        post_save.disconnect(log, sender=Product)

    line_of_import, line_of_person = [line for line in lines() if line["logger"] == "shop"]
    assert (line_of_import["row_index"], line_of_import["chunk_id"], line_of_import["epoch"]) == (
        1,
        message.chunk_id,
        1,
    )
    assert line_of_import["request_id"] == "the-invocation"
    assert line_of_import["job_id"] == "the shop's own", "a field that the line itself sets is kept"
    assert not {"row_index", "chunk_id", "request_id"} & line_of_person.keys()


def create(client: APIClient, token: str, key: str, row: dict[str, Any]) -> None:
    """Call the create endpoint as a worker does."""
    headers = {"Authorization": f"Import {token}", "Idempotency-Key": key, "X-Request-ID": "the-invocation"}
    assert client.post("/products/", row, format="json", headers=headers).status_code == 201


@pytest.mark.parametrize("request_id", ["two\nlines", "x" * 129, "name=<script>", "ü"])
def test_an_invalid_request_id_is_not_logged(
    client_of_merchandiser: APIClient, aws: Aws, lines: Any, request_id: str
) -> None:
    post_rows(client_of_merchandiser, [product("A")], headers={"X-Request-ID": request_id})

    (accepted,) = lines()
    assert "request_id" not in accepted


def test_an_event_of_the_timeline_is_logged_with_its_job(
    client_of_merchandiser: APIClient, aws: Aws, lines: Any
) -> None:
    job_id = post_rows(client_of_merchandiser, [product("A")]).json()["id"]
    client_of_merchandiser.delete(f"/products/bulk/{job_id}")

    events = [line for line in lines() if re.search(r": cancelled$", line["message"])]
    assert [line["job_id"] for line in events] == [job_id]
    assert ImportJob.objects.get().events.filter(kind="cancelled").exists()
