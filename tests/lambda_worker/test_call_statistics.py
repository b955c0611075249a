"""What a worker reports about the create calls of a delivery."""

from __future__ import annotations

import pytest

from bulk_import_wire.calls import NO_ANSWER, NO_VERDICT, Calls
from bulk_import_wire.contract import VERDICT_HEADER, RowVerdict
from lambda_worker.call_statistics import CallStatistics, kind_of
from lambda_worker.monolith_client import Answer


def an_answer(status: int, verdict: str = "") -> Answer:
    return Answer(status, {VERDICT_HEADER: verdict} if verdict else {}, b"")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (an_answer(201, RowVerdict.CREATED), "created"),
        (an_answer(500, RowVerdict.REPLAYED), "replayed"),
        (an_answer(400, RowVerdict.NOT_CREATED), "400"),
        (an_answer(202, RowVerdict.NOT_CREATED), "202"),
        (an_answer(503), "503"),
        (an_answer(200), NO_VERDICT),
    ],
)
def test_an_answer_is_named_after_what_staff_can_do_about_it(answer: Answer, kind: str) -> None:
    assert kind_of(answer) == kind


def test_the_report_has_the_answers_the_durations_and_the_oldest_call_in_flight() -> None:
    now = 0.0
    statistics = CallStatistics(clock=lambda: now)

    with statistics.in_flight():
        now = 0.2
        with statistics.in_flight():
            now = 1.2
            statistics.count(an_answer(201, RowVerdict.CREATED), seconds=0.2)
            statistics.count(None, seconds=1.0)
        report = statistics.report()

    assert report == Calls(in_flight=1, oldest_ms=1200, total_ms=1200, answers={"created": 1, NO_ANSWER: 1})
    assert statistics.report().in_flight == 0
