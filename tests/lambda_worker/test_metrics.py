"""The line with the metrics of a dispatch."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from bulk_import_wire.contract import VERDICT_HEADER, RowVerdict
from lambda_worker.limiter import ConcurrencyLimiter
from lambda_worker.metrics import UNITS, put_metrics
from lambda_worker.monolith_client import Answer
from lambda_worker.row_calls import RowCalls
from lambda_worker.row_dispatch import RowDispatch
from tests.lambda_worker.conftest import a_message

MESSAGE = a_message()
VERDICTS = {3: RowVerdict.UPDATED, 4: RowVerdict.DELETED, 5: RowVerdict.REPLAYED}


@pytest.fixture
def dispatch(_no_backoff: None) -> RowDispatch:
    """Dispatch six rows. The first is created, the second is created by its second call, the third is rejected.

    Each of the others has another one of the VERDICTS.
    """
    calls: list[int] = []

    async def create(index: int, _row: bytes, _timeout: float) -> Answer:
        calls.append(index)
        if index == 1 and calls.count(1) == 1:
            return Answer(503, {}, b"")
        if index == 2:
            return Answer(400, {VERDICT_HEADER: RowVerdict.NOT_CREATED.value}, b'{"sku": ["taken"]}')
        verdict = VERDICTS.get(index, RowVerdict.CREATED)
        return Answer(200, {VERDICT_HEADER: verdict.value}, b"{}")

    deadline = time.monotonic() + 60
    dispatch = RowDispatch(RowCalls(create, ConcurrencyLimiter(2), deadline), deadline)
    asyncio.run(dispatch.run(enumerate([b'{"sku": "secret"}'] * 6)))
    return dispatch


def test_a_dispatch_on_lambda_writes_one_line_in_the_embedded_metric_format(
    dispatch: RowDispatch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop-worker")

    put_metrics(dispatch, MESSAGE, 4, 1.23456)

    (text,) = capsys.readouterr().out.splitlines()
    line = json.loads(text)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert {name: line[name] for name in UNITS} == {
        "RowsCreated": 2,
        "RowsUpdated": 1,
        "RowsUnchanged": 0,
        "RowsDeleted": 1,
        "RowsReplayed": 1,
        "RowsNotCreated": 1,
        "Calls": 7,
        "CallsUnanswered": 1,
        "DispatchSeconds": 1.235,
    }
    assert {metric["Name"] for metric in directive["Metrics"]} == set(UNITS)
    assert directive["Dimensions"] == [["FunctionName"]]
    assert line["FunctionName"] == "shop-worker"
    assert (line["job_id"], line["chunk_id"], line["epoch"]) == (MESSAGE.job_id, MESSAGE.chunk_id, 4)
    assert "secret" not in text
    assert abs(line["_aws"]["Timestamp"] / 1000 - time.time()) < 60


def test_outside_lambda_nothing_is_written(
    dispatch: RowDispatch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)

    put_metrics(dispatch, MESSAGE, 4, 1.0)

    assert not capsys.readouterr().out
