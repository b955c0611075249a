"""Equal failures become one problem. However many problems there are, the list is short and the counts are correct."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.problems import (
    MAX_MESSAGE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PROBLEMS,
    OTHER,
    merge_problems,
    problem,
)

an_index = st.integers(0, 100_000)
problems = st.builds(
    lambda entry, count: {**entry, "count": count},
    st.builds(problem, st.sampled_from([None, "sku", "price"]), st.sampled_from("ab"), st.text(max_size=2), an_index)
    | st.builds(lambda index: {**OTHER, "count": 1, "first_index": index}, an_index),
    st.integers(1, 1000),
)
groups_of_problems = st.lists(st.lists(problems, max_size=60), max_size=6)


def count(entries: list[dict[str, Any]]) -> int:
    return sum(entry["count"] for entry in entries)


def flat(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [entry for group in groups for entry in group]


@given(groups_of_problems)
def test_merging_preserves_counts_and_the_first_row(groups: list[list[dict[str, Any]]]) -> None:
    merged = merge_problems(groups)

    assert count(merged) == count(flat(groups))
    assert min((p["first_index"] for p in merged), default=0) == min(
        (p["first_index"] for p in flat(groups)), default=0
    )


@given(groups_of_problems)
def test_the_merged_list_is_bounded_and_contains_each_problem_once(groups: list[list[dict[str, Any]]]) -> None:
    merged = merge_problems(groups)

    assert len(merged) <= MAX_PROBLEMS + 1
    assert len({(p["field"], p["code"], p["message"]) for p in merged}) == len(merged)


@given(groups_of_problems)
def test_merging_does_not_change_its_arguments(groups: list[list[dict[str, Any]]]) -> None:
    before = copy.deepcopy(groups)

    merge_problems(groups)

    assert groups == before


@given(groups_of_problems)
def test_merging_is_idempotent(groups: list[list[dict[str, Any]]]) -> None:
    merged = merge_problems(groups)

    assert merge_problems([merged]) == merged


def test_equal_failures_are_counted_together_and_the_most_frequent_come_first() -> None:
    rows = [
        [problem("sku", "blank", "Required.", 7)],
        [problem("price", "invalid", "No number.", index) for index in (5, 3)],
    ]

    assert merge_problems(rows) == [
        {"field": "price", "code": "invalid", "message": "No number.", "count": 2, "first_index": 3},
        {"field": "sku", "code": "blank", "message": "Required.", "count": 1, "first_index": 7},
    ]


def test_problems_beyond_the_maximum_are_counted_as_other_reasons() -> None:
    kinds = [problem("sku", "invalid", f"Reason {index:03}", index) for index in range(MAX_PROBLEMS + 5)]

    merged = merge_problems([kinds, [{**OTHER, "count": 10, "first_index": 400}]])

    assert merged[:-1] == kinds[:MAX_PROBLEMS]
    assert merged[-1] == {**OTHER, "count": 15, "first_index": MAX_PROBLEMS}


@given(st.text() | st.just("x" * 10_000), st.text() | st.just("x" * 10_000))
def test_a_problem_is_short_however_long_the_endpoints_message_is(name: str, message: str) -> None:
    made = problem(name, name, message, 0)

    assert len(made["field"]) <= MAX_NAME_CHARACTERS
    assert len(made["code"]) <= MAX_NAME_CHARACTERS
    assert len(made["message"]) <= MAX_MESSAGE_CHARACTERS
