"""The limit adapts to what an endpoint can serve, falls when it is slow or busy, and never exceeds the cap.

The endpoint is simulated as a queue in front of some servers. The clock is simulated, too: it jumps from event to
event, so that minutes of waiting take no time.
"""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_worker.limiter import START, ConcurrencyLimiter

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


TICK = 1e-9


class SimulatedSelector(selectors.SelectSelector):
    """Does not wait, but adds the time to its clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "a deadlock: every task waits for another one"
        self.now += timeout or TICK  # a timer may fire slightly early; time must pass for a task that waits again
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = SimulatedSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def run(main: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def a_limit(cap: int) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(cap, clock=asyncio.get_running_loop().time)


@dataclass
class Endpoint:
    """Serves `servers` calls at once, each in `seconds` on average. The other calls wait in a queue."""

    servers: int
    seconds: float = 1.0
    spread: float = 0.0  # standard deviation of the logarithm of the seconds
    overloaded: bool = False
    _free: asyncio.Semaphore = field(init=False)
    _random: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - not a secret

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.servers)

    async def answer(self) -> bool:
        """Serve one call. Return whether it was accepted."""
        if self.overloaded:
            await asyncio.sleep(0.01)
            return False
        async with self._free:
            await asyncio.sleep(self.seconds * self._random.lognormvariate(-(self.spread**2) / 2, self.spread))
        return True


@dataclass
class Import:
    """Calls the endpoint as often as the limit allows. Call the instance with a number of rows."""

    endpoint: Endpoint
    limit: ConcurrencyLimiter
    limits: list[int] = field(default_factory=list)  # after each call

    async def __call__(self, rows: int) -> float:
        """Send so many rows, and return the rows per second."""
        started = now()
        async with asyncio.TaskGroup() as calls:
            for _row in range(rows):
                await self.limit.acquire()
                calls.create_task(self._call())
        return rows / (now() - started)

    async def _call(self) -> None:
        started = now()
        accepted = await self.endpoint.answer()
        self.limit.record(now() - started, overloaded=not accepted)
        self.limit.release()
        self.limits.append(self.limit.limit)


@pytest.mark.parametrize("servers", [4, 6, 8, 12])
def test_within_fifty_calls_the_limit_is_one_to_two_times_what_the_endpoint_serves_at_once(servers: int) -> None:
    async def limits() -> list[int]:
        importing = Import(Endpoint(servers), a_limit(cap=64))
        await importing(1000)
        return importing.limits

    found = run(limits())
    assert max(found[:50]) >= servers
    assert servers <= mean(found[100:]) <= 2.5 * servers
    assert max(found) <= 4 * servers


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_an_endpoint_that_serves_less_than_the_first_limit_gets_at_most_about_twice_that_limit(servers: int) -> None:
    async def limits() -> list[int]:
        importing = Import(Endpoint(servers), a_limit(cap=64))
        await importing(1000)
        return importing.limits

    assert mean(run(limits())[100:]) <= 2.25 * START


@pytest.mark.parametrize("spread", [0, 0.3])
@pytest.mark.parametrize("servers", [1, 2, 4, 8])
def test_a_healthy_endpoint_is_kept_busy(servers: int, spread: float) -> None:
    async def rate() -> float:
        return await Import(Endpoint(servers, spread=spread), a_limit(cap=64))(1000)

    assert run(rate()) >= 0.95 * servers


@pytest.mark.parametrize("spread", [0, 0.3])
def test_the_limit_falls_to_one_when_the_endpoint_is_ten_times_as_slow_and_recovers_with_it(spread: float) -> None:
    async def limits() -> tuple[list[int], list[int]]:
        endpoint = Endpoint(8, spread=spread)
        importing = Import(endpoint, a_limit(cap=64))
        await importing(300)
        endpoint.seconds *= 10
        await importing(100)
        slow = importing.limits[-20:]
        endpoint.seconds /= 10
        await importing(400)
        return slow, importing.limits[-200:]

    slow, recovered = run(limits())
    assert max(slow) == 1
    assert min(recovered) >= 7
    assert max(recovered) <= 24


def test_other_users_of_an_endpoint_that_got_slow_do_not_wait_behind_the_import() -> None:
    async def waited() -> tuple[float, float]:
        endpoint = Endpoint(4)
        importing = Import(endpoint, a_limit(cap=32))
        await importing(100)
        endpoint.seconds = 10
        await importing(60)  # notices
        rows = asyncio.create_task(importing(40))
        other = []
        while not rows.done():
            started = now()
            await endpoint.answer()
            other.append(now() - started - endpoint.seconds)
        return max(other), await rows

    wait, rate = run(waited())
    assert wait == pytest.approx(0, abs=1e-6)
    assert rate > 0


def test_an_endpoint_that_stays_slow_becomes_the_new_normal_after_hundreds_of_calls() -> None:
    async def limits() -> list[int]:
        endpoint = Endpoint(8)
        importing = Import(endpoint, a_limit(cap=16))
        await importing(100)
        endpoint.seconds = 10
        await importing(1000)
        return importing.limits

    found = run(limits())
    assert max(found[200:300]) == 1
    assert mean(found[-300:]) >= 6


def test_the_slow_first_calls_to_a_cold_endpoint_do_not_determine_the_baseline() -> None:
    async def limits() -> list[int]:
        endpoint = Endpoint(4, seconds=20)
        importing = Import(endpoint, a_limit(cap=64))
        await importing(8)
        endpoint.seconds = 1
        await importing(500)
        return importing.limits

    assert mean(run(limits())[200:]) <= 12


def test_two_imports_share_an_endpoint_that_both_keep_busy() -> None:
    async def rates() -> list[float]:
        endpoint = Endpoint(8, spread=0.3)
        return await asyncio.gather(*(Import(endpoint, a_limit(cap=64))(2000) for _import in range(2)))

    assert min(run(rates())) >= 0.35 * 8


def test_busy_answers_reduce_the_limit_to_one() -> None:
    async def limits() -> tuple[int, list[int]]:
        endpoint = Endpoint(8)
        importing = Import(endpoint, a_limit(cap=64))
        await importing(200)
        before = len(importing.limits)
        endpoint.overloaded = True
        await importing(50)
        return importing.limits[before - 1], importing.limits[before:]

    healthy, busy = run(limits())
    assert healthy >= 8
    assert busy == sorted(busy, reverse=True)
    assert set(busy[-10:]) == {1}


def test_overloaded_calls_that_were_in_flight_together_halve_the_limit_once() -> None:
    async def limits() -> list[int]:
        limit = a_limit(cap=START)
        found = []
        await asyncio.sleep(30)
        for _call in range(START):
            limit.record(30, overloaded=True)
            found.append(limit.limit)
        await asyncio.sleep(30)
        limit.record(30, overloaded=True)
        return [*found, limit.limit]

    assert run(limits()) == [2, 2, 2, 2, 1]


def test_a_few_slow_calls_among_many_do_not_reduce_the_limit() -> None:
    async def limits() -> list[int]:
        limit = a_limit(cap=START)
        for call in range(400):
            await asyncio.sleep(5)
            limit.record(5 if call % 10 == 9 else 1, overloaded=False)
        return [limit.limit]

    assert run(limits()) == [START]


def test_a_lower_cap_takes_effect_at_once_and_the_limit_grows_to_a_higher_one() -> None:
    async def limits() -> tuple[int, int, list[int]]:
        limit = a_limit(cap=16)
        importing = Import(Endpoint(16), limit)
        await importing(200)
        limit.set_cap(2)
        lowered = limit.limit
        await importing(50)
        limit.set_cap(16)
        raised = limit.limit
        before = len(importing.limits)
        await importing(500)
        return lowered, raised, importing.limits[before:]

    lowered, raised, grown = run(limits())
    assert (lowered, raised) == (2, 2)
    assert all(later - earlier <= 1 for earlier, later in pairwise(grown))
    assert grown[-1] == 16


CALLS = st.tuples(st.floats(0, 1e6), st.booleans())


@given(st.integers(-2, 50), st.lists(CALLS | st.integers(-2, 50), max_size=200))
def test_whatever_happens_the_limit_is_between_one_and_the_cap(
    first_cap: int, happenings: list[tuple[float, bool] | int]
) -> None:
    time, cap = 0.0, first_cap
    limit = ConcurrencyLimiter(first_cap, clock=lambda: time)
    for happening in happenings:
        if isinstance(happening, int):
            cap = happening
            limit.set_cap(cap)
        else:
            seconds, overloaded = happening
            time += seconds
            limit.record(seconds, overloaded=overloaded)
        assert 1 <= limit.limit <= max(cap, 1)


@settings(max_examples=20)
@given(st.integers(1, 20), st.lists(st.integers(1, 20), max_size=4), st.booleans())
def test_never_more_calls_are_in_flight_than_the_current_limit(cap: int, caps: list[int], overloaded: bool) -> None:
    async def most_beyond_limit() -> int:
        limit = a_limit(cap)
        in_flight, beyond = 0, 0

        async def call() -> None:
            nonlocal in_flight
            await asyncio.sleep(1)
            limit.record(1, overloaded=overloaded)
            limit.release()
            in_flight -= 1

        async with asyncio.TaskGroup() as calls:
            for new_cap in [cap, *caps]:
                limit.set_cap(new_cap)
                for _row in range(40):
                    await limit.acquire()
                    in_flight += 1
                    beyond = max(beyond, in_flight - limit.limit)
                    calls.create_task(call())
        return beyond

    assert run(most_beyond_limit()) == 0


async def succeeds_at_once(acquiring: Coroutine[None, None, None]) -> bool:
    """Return whether this acquire succeeds without waiting."""
    task = asyncio.create_task(acquiring)
    for _turn in range(5):
        await asyncio.sleep(0)
    if task.done():
        return True
    task.cancel()
    return False


def test_waiting_calls_start_when_the_limit_grows() -> None:
    async def main() -> None:
        limit = a_limit(cap=64)
        for _call in range(START):
            await limit.acquire()
        waiting = [asyncio.create_task(limit.acquire()) for _ in range(START)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in waiting)

        while limit.limit < 2 * START:
            limit.record(1, overloaded=False)

        await asyncio.gather(*waiting)
        assert not await succeeds_at_once(limit.acquire())

    run(main())


def test_a_release_lets_exactly_one_waiting_call_start() -> None:
    async def successes() -> list[int]:
        limit = a_limit(cap=1)
        await limit.acquire()
        waiting = [asyncio.create_task(limit.acquire()) for _ in range(3)]
        done = []
        for _ in waiting:
            await asyncio.sleep(0)
            limit.release()
            for _turn in range(5):
                await asyncio.sleep(0)
            done.append(sum(task.done() for task in waiting))
        return done

    assert run(successes()) == [1, 2, 3]


def test_after_the_cap_is_lowered_no_call_starts_until_fewer_are_in_flight() -> None:
    async def successes() -> list[bool]:
        limit = a_limit(cap=3)
        for _ in range(3):
            await limit.acquire()
        limit.set_cap(1)
        done = []
        for _ in range(3):
            limit.release()
            done.append(await succeeds_at_once(limit.acquire()))
        return done

    assert run(successes()) == [False, False, True]


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_counts_as_one_so_that_the_rows_do_not_wait_for_ever(cap: int) -> None:
    async def successes() -> list[bool]:
        limits = a_limit(cap), a_limit(5)
        limits[1].set_cap(cap)
        return [await succeeds_at_once(limit.acquire()) for limit in (*limits, *limits)]

    assert run(successes()) == [True, True, False, False]
