"""Never more in flight than the cap, also while the cap changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_worker.concurrency import ConcurrencyLimit

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def is_let_through(acquiring: Coroutine[None, None, None]) -> bool:
    """Whether an acquire needs to wait for nobody."""
    task = asyncio.create_task(acquiring)
    for _turn in range(5):
        await asyncio.sleep(0)
    if task.done():
        return True
    task.cancel()
    return False


@given(st.lists(st.integers(-2, 6), max_size=12), st.integers(1, 6))
def test_never_more_than_the_cap_of_that_moment_is_let_through(caps: list[int], first_cap: int) -> None:
    async def run() -> None:
        limit = ConcurrencyLimit(first_cap)
        in_flight, cap = 0, first_cap
        for new_cap in caps:
            while await is_let_through(limit.acquire()):
                in_flight += 1
                assert in_flight <= cap
            assert in_flight >= cap
            limit.set_cap(new_cap)
            cap = max(new_cap, 1)
            limit.release()
            in_flight -= 1

    asyncio.run(run())


def test_a_higher_cap_lets_those_who_wait_through_at_once() -> None:
    async def run() -> None:
        limit = ConcurrencyLimit(1)
        await limit.acquire()
        waiting = [asyncio.create_task(limit.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)

        limit.set_cap(4)

        await asyncio.gather(*waiting)
        assert not await is_let_through(limit.acquire())

    asyncio.run(run())


def test_a_release_lets_exactly_one_of_those_who_wait_through() -> None:
    async def run() -> list[int]:
        limit = ConcurrencyLimit(1)
        await limit.acquire()
        waiting = [asyncio.create_task(limit.acquire()) for _ in range(3)]
        let_through = []
        for _ in waiting:
            await asyncio.sleep(0)
            limit.release()
            for _turn in range(5):
                await asyncio.sleep(0)
            let_through.append(sum(task.done() for task in waiting))
        return let_through

    assert asyncio.run(run()) == [1, 2, 3]


def test_with_a_lower_cap_a_release_lets_nobody_through_until_it_is_reached() -> None:
    async def run() -> list[bool]:
        limit = ConcurrencyLimit(3)
        for _ in range(3):
            await limit.acquire()
        limit.set_cap(1)
        let_through = []
        for _ in range(3):
            limit.release()
            let_through.append(await is_let_through(limit.acquire()))
        return let_through

    assert asyncio.run(run()) == [False, False, True]


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_is_one_so_that_the_rows_do_not_wait_for_ever(cap: int) -> None:
    async def run() -> list[bool]:
        limits = ConcurrencyLimit(cap), ConcurrencyLimit(5)
        limits[1].set_cap(cap)
        return [await is_let_through(limit.acquire()) for limit in (*limits, *limits)]

    assert asyncio.run(run()) == [True, True, False, False]
