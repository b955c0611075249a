"""The results say what became of each row, in order, while the job runs and afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from bulk_import import operations
from bulk_import.models import ImportedRow, ImportJob
from bulk_import_wire.lines import failure_line
from tests.bulk_import.conftest import Aws, call, claim, finish, product, record, release

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

ERROR = {"field": "category", "code": "does_not_exist", "message": "There is no category \u201ckayaks\u201d."}


def results(client: APIClient, query: str = "") -> list[dict[str, Any]]:
    """Return the results of the only job."""
    job = ImportJob.objects.get()
    answer: Any = client.get(f"/products/bulk/{job.pk}/results{query}")
    assert answer.status_code == 200, answer.content
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


def store_failures(aws: Aws, message: ChunkMessage, epoch: int, **outcomes: str) -> str:
    """Store the failures file of a chunk. The names of the outcomes are the indexes, as in `_1="rejected"`."""
    key = f"{message.job_id}/{message.first_index:09}-{epoch}.jsonl"
    known = {"status": 400, "errors": [ERROR], "attempts": 1, "at": "2026-01-31T12:00:00.000+00:00"}
    lines = [
        failure_line({"index": int(name[1:]), "outcome": outcome, **known}, json.dumps(product(name[1:])).encode())
        for name, outcome in outcomes.items()
    ]
    aws.s3.put_object(Bucket="bulk-import-failures", Key=key, Body=b"".join(lines))
    return key


@pytest.fixture
def chunks(messages: list[ChunkMessage], worker: APIClient, aws: Aws) -> list[ChunkMessage]:
    """Rows 0 and 2 of the first chunk are created, row 1 is rejected; the second chunk is open, with row 3."""
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 2)
    key = store_failures(aws, messages[0], epoch, _1="rejected")
    done = call(worker, "finish", messages[0], finish(epoch, rejected=1, failures_key=key))
    assert done.status_code == 200, done.content
    return messages


def test_the_results_list_each_row_once_and_in_order(client_of_merchandiser: APIClient, chunks: Any) -> None:
    ImportedRow.objects.filter(index=0).update(object_id="7", lookup="0")

    assert results(client_of_merchandiser) == [
        {
            "index": 0,
            "line": None,
            "outcome": "created",
            "id": "7",
            "url": "http://testserver/products/7/",
            "lookup": "0",
            "errors": [],
        },
        {
            "index": 1,
            "line": None,
            "outcome": "rejected",
            "id": None,
            "url": None,
            "lookup": "1",
            "errors": [ERROR],
        },
        {"index": 2, "line": None, "outcome": "created", "id": None, "url": None, "lookup": None, "errors": []},
    ]


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        ("?outcome=created", [0, 2]),
        ("?outcome=rejected", [1]),
        ("?outcome=updated", []),
        ("?after=0", [1, 2]),
        ("?after=2", []),
        ("?after=99999999999", []),
        ("?after=0&outcome=created", [2]),
    ],
)
def test_the_results_can_be_filtered_and_continued(
    client_of_merchandiser: APIClient, chunks: Any, query: str, indexes: list[int]
) -> None:
    assert [result["index"] for result in results(client_of_merchandiser, query)] == indexes


@pytest.mark.parametrize("query", ["after=-1", "after=x", "outcome=lost", "page=2"])
def test_a_wrong_parameter_is_a_400(client_of_merchandiser: APIClient, chunks: Any, query: str) -> None:
    answer = client_of_merchandiser.get(f"/products/bulk/{ImportJob.objects.get().pk}/results?{query}")

    assert answer.status_code == 400


def test_while_the_job_runs_the_results_end_before_the_first_row_without_an_outcome(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, messages: list[ChunkMessage]
) -> None:
    assert results(client_of_merchandiser) == []
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 2)
    record(messages[1], 3)
    assert [result["index"] for result in results(client_of_merchandiser)] == [0]

    # The row that was only tried has no outcome yet. The next worker continues with it.
    key = store_failures(aws, messages[0], epoch, _1="unprocessed")
    assert call(worker, "release", messages[0], release(epoch, failures_key=key)).status_code == 200
    assert [result["index"] for result in results(client_of_merchandiser)] == [0]

    epoch = claim(worker, messages[0]).epoch
    key = store_failures(aws, messages[0], epoch, _1="rejected")
    assert call(worker, "release", messages[0], release(epoch, failures_key=key)).status_code == 200
    assert [result["index"] for result in results(client_of_merchandiser)] == [0, 1, 2, 3]


def test_a_retry_withdraws_the_results_of_the_rows_that_run_again(
    client_of_merchandiser: APIClient, worker: APIClient, chunks: list[ChunkMessage]
) -> None:
    epoch = claim(worker, chunks[1]).epoch
    record(chunks[1], 3)
    assert call(worker, "finish", chunks[1], finish(epoch)).status_code == 200
    assert [result["outcome"] for result in results(client_of_merchandiser)] == [
        "created",
        "rejected",
        "created",
        "created",
    ]

    operations.retry(ImportJob.objects.get())
    assert [result["index"] for result in results(client_of_merchandiser)] == [0]
    record(chunks[0], 1)
    assert [result["outcome"] for result in results(client_of_merchandiser)] == ["created"] * 4


def test_a_row_that_is_created_after_all_is_listed_once(
    client_of_merchandiser: APIClient, chunks: list[ChunkMessage]
) -> None:
    record(chunks[0], 1)

    assert [result["outcome"] for result in results(client_of_merchandiser)] == ["created"] * 3


@pytest.mark.parametrize("kind", ["ledger", "failures"])
def test_expired_results_are_a_410(client_of_merchandiser: APIClient, chunks: Any, kind: str) -> None:
    ImportJob.objects.update(**{f"{kind}_expired_at": timezone.now()})
    path = f"/products/bulk/{ImportJob.objects.get().pk}"

    answers = [client_of_merchandiser.get(f"{path}/results{suffix}") for suffix in ("", "?format=csv", "/0")]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(410, "expired")] * 3
    assert client_of_merchandiser.get(path).json()["links"]["results"] is None


def test_one_result_is_found_by_its_index(client_of_merchandiser: APIClient, chunks: Any) -> None:
    path = f"/products/bulk/{ImportJob.objects.get().pk}/results"

    assert client_of_merchandiser.get(f"{path}/1").json() == results(client_of_merchandiser)[1]
    for index in ("3", "4", "99999999999", "-1", "x"):
        assert client_of_merchandiser.get(f"{path}/{index}").status_code == 404


def test_the_csv_cannot_run_formulas(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, settings: Any
) -> None:
    table = "sku,name,price,currency,category\n=1+1,Tent,1.00,EUR,tents\n\n@x,Tent,1.00,EUR,tents\n"
    answer = client_of_merchandiser.post("/products/bulk", table.encode(), content_type="text/csv")
    (message,) = aws.messages()
    epoch = claim(worker, message).epoch
    key = store_failures(aws, message, epoch, _1="rejected")
    record(message, 0)
    ImportedRow.objects.update(object_id="5", lookup="=1+1")
    assert call(worker, "finish", message, finish(epoch, rejected=1, failures_key=key)).status_code == 200

    download: Any = client_of_merchandiser.get(f"{answer.json()['links']['results']}?format=csv")

    assert download["Content-Disposition"].startswith('attachment; filename="products-results-')
    assert b"".join(download.streaming_content).decode().splitlines() == [
        "\ufeffindex,line,outcome,id,url,lookup,reasons",
        "0,2,created,5,http://testserver/products/5/,'=1+1,",
        "1,4,rejected,,,1,category: There is no category \u201ckayaks\u201d.",
    ]


def test_nobody_sees_the_results_of_another_user(
    client_of_merchandiser: APIClient, admin_client: Any, chunks: Any
) -> None:
    path = f"/products/bulk/{ImportJob.objects.get().pk}/results"

    assert [admin_client.get(f"{path}{suffix}").status_code for suffix in ("", "/0")] == [404, 404]


def test_a_dead_chunk_without_its_payload_has_unprocessed_rows(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    epoch = claim(worker, messages[0]).epoch
    assert call(worker, "dead", messages[0], finish(epoch, unprocessed=3)).status_code == 200

    assert [result["outcome"] for result in results(client_of_merchandiser)] == ["unprocessed"] * 3
