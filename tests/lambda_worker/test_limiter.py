"""The limit holds the knee of an endpoint, falls when it is slow or busy, and never exceeds the cap.

The endpoint is simulated as a queue in front of some servers. The clock is simulated, too: it jumps from event to
event, so that minutes of waiting take no time.
"""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_import_wire.contract import UNUSED
from lambda_worker.limiter import LOWEST_IF_UNUSED, REMEMBERED_SECONDS, ConcurrencyLimiter, Limiters

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


def limiters() -> Limiters:
    """The memory of a new worker process."""
    return Limiters(clock=asyncio.get_running_loop().time)


def a_limit(cap: int) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(cap, clock=asyncio.get_running_loop().time)


@dataclass
class Endpoint:
    """Serves `servers` calls at once, each in `seconds` on average. The other calls wait in a queue."""

    servers: int
    seconds: float = 1.0
    spread: float = 0.0  # standard deviation of the logarithm of the seconds
    overloaded: bool = False
    shop_load: float | None = None
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

    async def visit(self, every_seconds: float, until: asyncio.Task[float]) -> float:
        """Let another user call the endpoint at random times. Return the mean latency of these calls."""

        async def latency() -> float:
            started = now()
            await self.answer()
            return now() - started

        visits = []
        while not until.done():
            await asyncio.sleep(self._random.expovariate(1 / every_seconds))
            visits.append(asyncio.create_task(latency()))
        return mean(await asyncio.gather(*visits))


@dataclass
class Import:
    """Calls the endpoint as often as the limit allows. Call the instance with a number of rows."""

    endpoint: Endpoint
    limit: ConcurrencyLimiter
    call_rows: int = 1  # rows of a batch
    limits: list[int] = field(default_factory=list)  # after each row
    in_flight: list[int] = field(default_factory=list)  # calls, after each row

    async def __call__(self, rows: int) -> float:
        """Send so many rows, and return the rows per second."""
        started = now()
        async with asyncio.TaskGroup() as calls:
            for _call in range(rows // self.call_rows):
                await self.limit.acquire()
                calls.create_task(self._call())
        return rows / (now() - started)

    async def _call(self) -> None:
        for _row in range(self.call_rows):
            started = now()
            accepted = await self.endpoint.answer()
            load = self.endpoint.shop_load
            self.limit.record(now() - started, overloaded=not accepted, shop_load=load, rows=self.call_rows)
            self.limits.append(self.limit.limit)
            self.in_flight.append(self.limit._in_flight)
        self.limit.release()


@pytest.mark.parametrize(
    ("servers", "spread", "lowest_rate", "highest_limit"),
    [(1, 0, 0.99, 1.3), (4, 0, 0.97, 6), (32, 0, 0.9, 44), (1, 0.3, 0.99, 1.3), (4, 0.3, 0.9, 5.5), (32, 0.3, 0.9, 40)],
)
def test_the_limit_holds_the_fewest_calls_that_keep_the_endpoint_busy(
    servers: int, spread: float, lowest_rate: float, highest_limit: float
) -> None:
    async def rate_and_limits() -> tuple[float, list[int]]:
        importing = Import(Endpoint(servers, spread=spread), a_limit(cap=256))
        await importing(100 + 10 * servers)  # searches
        importing.limits.clear()
        return await importing(5000), importing.limits

    rate, limits = run(rate_and_limits())
    assert rate >= lowest_rate * servers
    assert mean(limits) <= highest_limit


@pytest.mark.parametrize(("servers", "spread", "most_in_flight"), [(1, 0, 1.3), (4, 0.3, 5.5), (8, 0.3, 10.5)])
def test_an_endpoint_gets_hardly_more_batches_than_it_can_serve(
    servers: int, spread: float, most_in_flight: float
) -> None:
    """A batch that is one too many occupies a thread of the server until it ends."""

    async def rate_and_batches() -> tuple[float, list[int]]:
        importing = Import(Endpoint(servers, spread=spread), a_limit(cap=16), call_rows=100)
        await importing(4000)  # searches
        importing.in_flight.clear()
        return await importing(40_000), importing.in_flight

    rate, in_flight = run(rate_and_batches())
    assert rate >= 0.95 * servers
    assert mean(in_flight) <= most_in_flight


def test_the_limit_doubles_from_one_until_calls_wait() -> None:
    async def limits() -> list[int]:
        importing = Import(Endpoint(8), a_limit(cap=64))
        await importing(100)
        return importing.limits

    found = [limit for limit, _calls in groupby(run(limits()))]
    assert found[:5] == [1, 2, 4, 8, 16]
    assert found[5] in {8, 9}


async def use_all_calls(limit: ConcurrencyLimiter) -> None:
    """Have as many calls in flight as the limit allows."""
    while limit._in_flight < limit.limit:
        await limit.acquire()


def test_one_slow_call_in_a_window_does_not_reduce_the_limit() -> None:
    """For example, the garbage collector stopped the process."""

    async def limits() -> list[int]:
        limit = a_limit(cap=4)
        found = []
        for call in range(400):
            await use_all_calls(limit)
            await asyncio.sleep(50)
            limit.record(50 if call % 9 == 8 else 1, overloaded=False)
            found.append(limit.limit)
        return found

    found = run(limits())
    assert found == sorted(found)
    assert found[-1] == 4


def test_the_limit_does_not_grow_while_fewer_calls_are_in_flight() -> None:
    """One call with many rows does not show whether the endpoint can serve two."""

    async def limit_after(rows: int) -> int:
        limit = a_limit(cap=16)
        await use_all_calls(limit)
        for _row in range(rows):
            await asyncio.sleep(1)
            limit.record(1, overloaded=False)
        return limit.limit

    assert run(limit_after(100)) == 2


@pytest.mark.parametrize("spread", [0, 0.3])
def test_the_limit_falls_to_one_when_the_endpoint_is_ten_times_as_slow_and_recovers_with_it(spread: float) -> None:
    async def limits() -> tuple[list[int], list[int]]:
        endpoint = Endpoint(8, spread=spread)
        importing = Import(endpoint, a_limit(cap=64))
        await importing(300)
        endpoint.seconds *= 10
        await importing(60)
        importing.limits.clear()
        await importing(60)
        slow = importing.limits[:]
        endpoint.seconds /= 10
        await importing(400)
        return slow, importing.limits[-200:]

    slow, recovered = run(limits())
    assert set(slow) == {1}
    assert 7 <= mean(recovered) <= 11


def test_an_endpoint_that_stays_slow_becomes_the_new_normal_after_hundreds_of_calls() -> None:
    async def limits() -> list[int]:
        endpoint = Endpoint(8)
        importing = Import(endpoint, a_limit(cap=16))
        await importing(100)
        endpoint.seconds = 10
        await importing(1000)
        return importing.limits

    found = run(limits())
    assert max(found[150:300]) == 1
    assert mean(found[-300:]) >= 6


def test_the_slow_first_calls_to_a_cold_endpoint_do_not_determine_the_idle_latency() -> None:
    async def limits() -> list[int]:
        endpoint = Endpoint(4, seconds=20)
        importing = Import(endpoint, a_limit(cap=64))
        await importing(8)
        endpoint.seconds = 1
        await importing(500)
        return importing.limits

    assert mean(run(limits())[200:]) <= 8


@pytest.mark.parametrize(("servers", "highest_latency"), [(1, 2.5), (4, 1.4), (32, 1.4)])
def test_other_users_hardly_wait_and_the_import_uses_what_they_leave(servers: int, highest_latency: float) -> None:
    """They use a fifth of the endpoint. With one server, even a limit of 1 makes them wait for 2.1 seconds in all."""

    async def rate_and_latency() -> tuple[float, float]:
        endpoint = Endpoint(servers, spread=0.3)
        importing = Import(endpoint, a_limit(cap=256))
        await importing(100 + 10 * servers)
        rows = asyncio.create_task(importing(1500))
        latency = await endpoint.visit(5 / servers, until=rows)
        return await rows, latency

    rate, latency = run(rate_and_latency())
    assert rate >= 0.6 * servers
    assert latency <= highest_latency


def test_a_loaded_shop_reduces_the_limit_to_one_until_it_is_quiet_again() -> None:
    async def limits() -> tuple[list[int], list[int], list[int]]:
        endpoint = Endpoint(8, shop_load=0.0)
        importing = Import(endpoint, a_limit(cap=64))
        await importing(300)
        quiet = importing.limits[100:]
        endpoint.shop_load = 0.5
        await importing(60)
        importing.limits.clear()
        await importing(100)
        loaded = importing.limits[:]
        endpoint.shop_load = None
        await importing(200)
        return quiet, loaded, importing.limits[-100:]

    quiet, loaded, recovered = run(limits())
    assert min(quiet) >= 8
    assert set(loaded) == {1}
    assert min(recovered) >= 8


def test_the_more_the_shop_is_loaded_the_lower_the_limit() -> None:
    async def limit_soon_after(shop_load: float) -> int:
        endpoint = Endpoint(8)
        importing = Import(endpoint, a_limit(cap=64))
        await importing(130)
        endpoint.shop_load = shop_load
        await importing(40)
        return importing.limits[-1]

    found = [run(limit_soon_after(load)) for load in (0.05, 0.25, 0.5, 1.0)]
    assert found == sorted(set(found), reverse=True)
    assert found[0] >= 8
    assert found[-1] == 1


@pytest.mark.parametrize("imports", [1, 2, 4])
def test_while_nobody_uses_the_shop_each_import_keeps_a_call_waiting_and_hardly_more(imports: int) -> None:
    async def limits() -> list[list[int]]:
        endpoint = Endpoint(1, spread=0.3, shop_load=UNUSED)
        running = [Import(endpoint, a_limit(cap=256)) for _import in range(imports)]
        await asyncio.gather(*(importing(1000) for importing in running))
        return [importing.limits[100:] for importing in running]

    for found in run(limits()):
        assert mean(found) == pytest.approx(LOWEST_IF_UNUSED, abs=0.2)
        assert max(found) == LOWEST_IF_UNUSED + 1


def test_the_first_visitor_gets_the_place_of_the_call_that_waits() -> None:
    async def limits() -> list[int]:
        endpoint = Endpoint(1, shop_load=UNUSED)
        importing = Import(endpoint, a_limit(cap=256))
        await importing(200)
        endpoint.shop_load = 0.0
        await importing(20)
        importing.limits.clear()
        await importing(100)
        return importing.limits

    assert mean(run(limits())) <= 1.3


@pytest.mark.parametrize("spread", [0, 0.3])
@pytest.mark.parametrize("servers", [1, 4, 32])
def test_two_imports_get_fair_shares_and_keep_the_endpoint_busy(servers: int, spread: float) -> None:
    """The second one starts when the first one has already found the knee. Each remembers it for its next chunk."""

    async def rows_created() -> list[int]:
        endpoint = Endpoint(servers, spread=spread)
        created = [0, 0]

        async def import_chunks(number: int, rows: int) -> None:
            worker = limiters()
            while now() < 600 + 6000 / servers:
                importing = Import(endpoint, worker.limiter("/", cap=256))
                await importing(rows)
                created[number] += rows

        async with asyncio.TaskGroup() as imports:
            imports.create_task(import_chunks(0, 200))
            await asyncio.sleep(100)
            created[0] = 0
            imports.create_task(import_chunks(1, 200))
        return created

    created = run(rows_created())
    assert min(created) >= 0.35 * sum(created)


def test_two_imports_on_one_server_need_hardly_more_than_one_call_each() -> None:
    async def limits() -> list[int]:
        endpoint = Endpoint(1, spread=0.3)
        imports = [Import(endpoint, a_limit(cap=256)) for _import in range(2)]
        await asyncio.gather(*(importing(1000) for importing in imports))
        return [limit for importing in imports for limit in importing.limits]

    assert mean(run(limits())) <= 1.5


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
        limit = a_limit(cap=4)
        await Import(Endpoint(4), limit)(100)
        found = [limit.limit]
        await asyncio.sleep(30)
        for _call in range(4):
            limit.record(30, overloaded=True)
            found.append(limit.limit)
        await asyncio.sleep(30)
        limit.record(30, overloaded=True)
        return [*found, limit.limit]

    assert run(limits()) == [4, 2, 2, 2, 2, 1]


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
        importing.limits.clear()
        await importing(500)
        return lowered, raised, importing.limits

    lowered, raised, grown = run(limits())
    assert (lowered, raised) == (2, 2)
    assert [limit for limit, _calls in groupby(grown)] == [2, 3, 5, 9, 16]


def test_a_cap_that_does_not_change_leaves_the_window_alone() -> None:
    """A heartbeat sets the cap. It may come more often than a window of slow calls ends."""

    async def limit_after_a_window() -> int:
        limit = a_limit(cap=16)
        await use_all_calls(limit)
        for _call in range(8):
            await asyncio.sleep(10)
            limit.record(10, overloaded=False)
            limit.set_cap(16)
        return limit.limit

    assert run(limit_after_a_window()) == 2


@pytest.mark.parametrize(
    ("servers", "spread", "lowest_rate"), [(1, 0, 0.99), (4, 0, 0.97), (4, 0.3, 0.9), (32, 0.3, 0.75)]
)
def test_a_worker_remembers_the_knee_for_its_next_chunk(servers: int, spread: float, lowest_rate: float) -> None:
    """A chunk of 200 rows alone reaches a quarter of the rate of an endpoint that serves 32 calls at once."""

    async def rate() -> float:
        endpoint, worker = Endpoint(servers, spread=spread), limiters()
        started = now()
        for _chunk in range(20):
            await Import(endpoint, worker.limiter("/", cap=256))(200)
        return 20 * 200 / (now() - started)

    assert run(rate()) >= lowest_rate * servers


def test_what_a_worker_remembers_is_only_for_this_endpoint_and_for_a_minute_and_never_exceeds_the_cap() -> None:
    async def first_limits() -> list[int]:
        worker = limiters()
        await Import(Endpoint(8), worker.limiter("/", cap=64))(300)
        await asyncio.sleep(REMEMBERED_SECONDS - 1)
        found = [worker.limiter(path, cap).limit for path, cap in [("/", 64), ("/", 3), ("/other", 64)]]
        await asyncio.sleep(2)
        return [*found, worker.limiter("/", 64).limit]

    remembered, *others = run(first_limits())
    assert remembered >= 8
    assert others == [3, 1, 1]


def test_a_chunk_that_begins_while_another_one_runs_copies_what_is_known_and_has_its_own_calls() -> None:
    """Each invocation has an event loop of its own, so they must not share an `asyncio.Event`."""
    time = 0.0
    worker = Limiters(clock=lambda: time)

    async def first() -> ConcurrencyLimiter:
        limit = worker.limiter("/", cap=1)
        await limit.acquire()
        waiting = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        waiting.cancel()
        return limit

    async def second() -> bool:
        limit = worker.limiter("/", cap=1)
        first_succeeds = await succeeds_at_once(limit.acquire())
        waiting = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        limit.release()
        await waiting
        return first_succeeds

    running = asyncio.run(first())
    assert asyncio.run(second())
    running.set_cap(9)
    assert worker.limiter("/", cap=9).limit == 1


CALLS = st.tuples(st.floats(0, 1e6), st.booleans(), st.none() | st.just(UNUSED) | st.floats(0, 1))


@given(st.integers(-2, 50), st.lists(CALLS | st.integers(-2, 50), max_size=200))
def test_whatever_happens_the_limit_is_between_one_and_the_cap(
    first_cap: int, happenings: list[tuple[float, bool, float | None] | int]
) -> None:
    time, cap = 0.0, first_cap
    limit = ConcurrencyLimiter(first_cap, clock=lambda: time)
    for happening in happenings:
        if isinstance(happening, int):
            cap = happening
            limit.set_cap(cap)
        else:
            seconds, overloaded, shop_load = happening
            time += seconds
            limit._most_in_flight = limit.limit
            limit.record(seconds, overloaded=overloaded, shop_load=shop_load)
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
        await limit.acquire()
        waiting = [asyncio.create_task(limit.acquire()) for _ in range(3)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in waiting)

        while limit.limit < 4:
            await asyncio.sleep(1)
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
        await Import(Endpoint(3), limit)(50)
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
