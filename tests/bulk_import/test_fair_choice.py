"""Submitters take turns, and so do the jobs of each submitter, whatever happens in which order."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bulk_import.models.fair_choice import Contender, Turns, count_imports_ahead


@dataclass
class Import:
    """A job of the simulation."""

    submitter: int
    chunks: int
    due_at: int
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    in_flight: int = 0
    served_at: int = 0

    def contender(self) -> Contender:
        return Contender(
            self.id,
            self.submitter,
            self.due_at,
            in_flight=self.in_flight,
            served_at=self.served_at,
            room=self.chunks,
        )


@given(
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), min_size=1, max_size=12),
    places=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
def test_the_next_place_is_always_that_of_the_submitter_and_job_with_the_fewest_and_nobody_waits_forever(
    sizes: list[tuple[int, int]], places: int, seed: int
) -> None:
    """Imports arrive in this order, at random times, and chunks end in any order."""
    random = Random(seed)  # noqa: S311 - a seed must be repeatable
    coming = [Import(submitter, chunks, due_at=n) for n, (submitter, chunks) in enumerate(sizes)]
    present: list[Import] = []
    passed: Counter[int] = Counter()  # for each submitter with nothing in flight, how often it was passed over
    for now in range(1, 10_000):
        if coming and (not present or random.random() < 0.5):
            present.append(coming.pop(0))
        running = [one for one in present if one.in_flight]
        if running and (sum(one.in_flight for one in present) >= places or random.random() < 0.3):
            random.choice(running).in_flight -= 1
        chosen = Turns(one.contender() for one in present).next_job()
        waiting = [one for one in present if one.chunks]
        assert (chosen is None) == (not waiting)
        if chosen is None:
            if not coming and not any(one.in_flight for one in present):
                return
            continue
        if sum(one.in_flight for one in present) >= places:
            continue
        (served,) = [one for one in present if one.id == chosen.job_id]
        in_flight: Counter[int] = Counter()
        for one in present:
            in_flight[one.submitter] += one.in_flight
        assert in_flight[served.submitter] == min(in_flight[one.submitter] for one in waiting)
        assert served.in_flight == min(one.in_flight for one in waiting if one.submitter == served.submitter)
        for submitter in {one.submitter for one in waiting if not in_flight[one.submitter]} - {served.submitter}:
            passed[submitter] += 1
            assert passed[submitter] < len({one.submitter for one in present})
        passed[served.submitter] = 0
        served.in_flight, served.chunks, served.served_at = served.in_flight + 1, served.chunks - 1, now
    raise AssertionError("the imports did not end")


def job(number: int, submitter: str, **fields: float | bool) -> Contender:
    return Contender(uuid.UUID(int=number), submitter, due_at=number, **{"room": 4, **fields})  # type: ignore[arg-type]


def test_a_new_small_job_comes_before_the_large_jobs_of_the_same_submitter() -> None:
    large = [job(n, "ana", in_flight=n < 3, served_at=100 + n) for n in range(10)]

    assert Turns([*large, new := job(99, "ana")]).next_job() is new


def test_a_job_at_the_front_comes_before_all_others_and_the_last_one_that_was_moved_comes_first() -> None:
    jobs = [job(1, "ana"), job(2, "ana", front_at=5, in_flight=4), job(3, "bob", front_at=6), job(4, "bob")]
    turns = Turns(jobs)

    order = []
    while found := turns.next_job():
        order.append(found.job_id.int)
        turns.drop(found)
    assert order[:2] == [3, 2]


def test_a_cancelled_job_gets_the_places_that_are_left_when_each_other_job_has_one() -> None:
    """A file that its submitter sends after the cancel does not wait until all of its chunks have been reported."""
    cancelled = job(1, "ana", is_cancelled=True, in_flight=3, served_at=9)
    turns = Turns([cancelled, new := job(2, "ana"), bob := job(3, "bob", served_at=8)])

    order: list[Contender] = []
    while len(order) < 6 and (following := turns.next_job()):
        order.append(following)
        turns.serve(following)
    assert order == [bob, new, bob, cancelled, cancelled, cancelled]


def test_the_imports_ahead_are_those_that_have_or_get_a_place_before() -> None:
    jobs = [
        job(1, "ana", in_flight=2, served_at=10),
        job(2, "ana", in_flight=1, served_at=11),
        job(3, "ana"),
        job(4, "ana"),
        job(5, "bob"),
        job(6, "eva", front_at=3),
    ]

    ahead = count_imports_ahead(jobs, [contender.job_id for contender in jobs])

    assert {number.int: count for number, count in ahead.items()} == {6: 2, 5: 3, 3: 4, 4: 5}


def test_it_takes_no_time_to_count_the_imports_ahead_of_the_last_of_hundreds() -> None:
    """One submitter has 300 of 600 waiting imports. If each step looked at all imports, it would take 20 seconds."""
    jobs = [job(n, "ana" if n < 300 else f"user-{n}", in_flight=n < 4) for n in range(600)]

    assert count_imports_ahead(jobs, [jobs[299].job_id]) == {jobs[299].job_id: 599}
