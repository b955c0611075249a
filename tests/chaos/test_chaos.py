"""Some runs of `make chaos`, with different profiles of faults.

Workers that sleep longer than their lease and dead letters, which take long in real time, are faults of the simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.handlers.exception import convert_exception_to_response
from django.test import RequestFactory

from demo.stack import PROJECT
from tests.chaos.audit import find_unexpected_errors
from tests.chaos.campaign import audit_again, run_seed
from tests.chaos.mutate import MUTATIONS, Mutation
from tests.chaos.plan import Plan
from tests.chaos.shop import Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponse

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def chaotic_shop() -> Iterator[Shop]:
    with Shop() as shop:
        yield shop


def test_no_row_is_lost_duplicated_or_misreported_despite_all_faults(chaotic_shop: Shop) -> None:
    runs = [run_seed(chaotic_shop, seed, profile=profile) for seed, profile in [(1, "mixed"), (2, "changes")]]

    assert [run.log + "\n".join(run.findings.sentences()) for run in runs if run.findings] == []
    assert audit_again(chaotic_shop, runs).sentences() == []
    assert all(run.faults for run in runs)
    assert {"run", "undo", "edit"} <= runs[1].faults.keys()


def test_the_same_seed_gives_the_same_plan() -> None:
    first, second = Plan(7), Plan(7)

    assert first.events == second.events
    assert first.submissions == second.submissions
    assert first.events != Plan(8).events


def test_an_exception_in_one_of_our_own_views_is_found_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_request: HttpRequest) -> HttpResponse:
        raise RuntimeError("a bug")

    for path in ("/products/bulk/1", "/bulk-import/worker/claim", "/products/"):
        convert_exception_to_response(fail)(RequestFactory().get(path))

    found = find_unexpected_errors(caplog.text)
    assert found == ["/products/bulk/1 was answered 500", "/bulk-import/worker/claim was answered 500"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_mutation_matches_the_code(mutation: Mutation) -> None:
    """Otherwise `make mutants`, which runs rarely, is out of date."""
    for path, text, _ in mutation.edits:
        assert (PROJECT / path).read_text().count(text) == 1
