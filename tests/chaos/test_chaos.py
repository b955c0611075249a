"""A few of the runs of `make chaos`, one for each way in which things go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.campaign import audit_again, run_seed
from tests.chaos.plan import Plan
from tests.chaos.shop import Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def chaotic_shop() -> Iterator[Shop]:
    with Shop() as shop:
        yield shop


def test_nothing_is_lost_doubled_or_misreported_while_everything_breaks(chaotic_shop: Shop) -> None:
    runs = [
        run_seed(chaotic_shop, seed, profile=profile)
        for seed, profile in enumerate(["mixed", "twins", "pauses", "deaths"], start=1)
    ]

    assert [run.log + "\n".join(run.findings.sentences()) for run in runs if run.findings] == []
    assert audit_again(chaotic_shop, runs).sentences() == []
    assert all(run.faults for run in runs)


def test_a_seed_is_the_same_plan_again() -> None:
    first, second = Plan(7), Plan(7)

    assert first.events == second.events
    assert first.submissions == second.submissions
    assert first.events != Plan(8).events
