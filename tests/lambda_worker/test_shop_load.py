"""The worker reads the load of the shop from the response to each create call, and makes fewer calls for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from bulk_import_wire.contract import LOAD_HEADER, UNUSED, VERDICT_HEADER, RowVerdict
from lambda_worker.limiter import ConcurrencyLimiter
from lambda_worker.monolith_client import Answer
from lambda_worker.row_calls import RowCalls
from lambda_worker.row_dispatch import RowDispatch
from tests.lambda_worker.conftest import a_row


@pytest.mark.parametrize(("text", "load"), [("0.00", 0), ("0.42", 0.42), ("1.00", 1), ("-1.00", UNUSED)])
def test_the_load_is_a_share(text: str, load: float) -> None:
    assert Answer(201, {LOAD_HEADER: text}, b"").shop_load == load


@pytest.mark.parametrize("headers", [{}, *[{LOAD_HEADER: text} for text in ("", "high", "nan", "-0.1", "1.01", "inf")]])
def test_anything_else_says_nothing_about_the_load(headers: dict[str, str]) -> None:
    assert Answer(201, headers, b"").shop_load is None


@pytest.mark.parametrize(("load", "is_alone"), [("0.00", False), ("1.00", True)])
def test_while_the_shop_is_slow_each_call_waits_for_the_previous_one(load: str, *, is_alone: bool) -> None:
    in_flight, most_in_flight = 0, 0

    async def create(_index: int, _row: bytes, _timeout_seconds: float) -> Answer:
        nonlocal in_flight, most_in_flight
        in_flight += 1
        most_in_flight = max(most_in_flight, in_flight)
        await asyncio.sleep(0)
        in_flight -= 1
        return Answer(201, {VERDICT_HEADER: RowVerdict.CREATED, LOAD_HEADER: load}, b"")

    end = time.monotonic() + 60
    dispatch = RowDispatch(RowCalls(create, ConcurrencyLimiter(cap=4), settle_by=end), stop_at=end)
    asyncio.run(dispatch.run((index, a_row(index)) for index in range(50)))

    assert dispatch.done.total() == 50
    assert (most_in_flight == 1) == is_alone
