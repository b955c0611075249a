"""Checks what a worker reports, so that a faulty worker cannot store values that the database or the pages refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bulk_import_wire.calls import MAX_ANSWERS, Calls
from bulk_import_wire.contract import PauseCode
from bulk_import_wire.json_object import MessageError
from bulk_import_wire.problems import MAX_MESSAGE_CHARACTERS, MAX_NAME_CHARACTERS, MAX_PROBLEMS

if TYPE_CHECKING:
    from bulk_import.models import ImportChunk
    from bulk_import_wire.contract import Finish, Release

MAX_KEY_CHARACTERS = 1024
"""Longest key of an object in S3."""

MAX_RETRY_AFTER_SECONDS = 10**9
"""Largest Retry-After of an endpoint that a worker may report, about 30 years. A pause is much shorter anyway."""


MAX_MS = 10**12
"""Largest number of milliseconds that a worker may report, about 30 years."""

MAX_ANSWER_CHARACTERS = 20
"""Longest name of an answer in `Calls.answers`."""

MAX_COUNT = 10**9
"""Largest count of a problem. In a job of 100,000 rows, it allows 10,000 errors per row, which no real row has."""


def checked_report(report: Finish, chunk: ImportChunk) -> Finish:
    """Check the problems of a report, and return the report without the unknown keys of its problems.

    Raises MessageError if a value is not valid. The numbers of rows are not checked here:
    `ImportChunk.finish` compares them with the ledger.
    """
    if len(report.problems) > MAX_PROBLEMS + 1:  # the last one stands for all others
        raise MessageError(f"problems: more than {MAX_PROBLEMS + 1}")
    check_failures_key(report.failures_key, chunk)
    check_tried_rows(report, chunk)
    return replace(report, problems=[_checked_problem(problem, chunk) for problem in report.problems])


def check_release(release: Release, chunk: ImportChunk) -> None:
    """Raise MessageError if a value of a release is not valid."""
    check_failures_key(release.failures_key, chunk)
    check_tried_rows(release, chunk)
    check_range("retry_after_seconds", release.retry_after_seconds, MAX_RETRY_AFTER_SECONDS)
    if release.pause and release.pause not in set(PauseCode):
        raise MessageError("pause: unknown code")


def checked_calls(calls: dict[str, Any]) -> Calls:
    """Return what a worker reports about its create calls. Raises MessageError if a value is not valid."""
    checked = Calls.from_dict(calls)
    for name in ("in_flight", "oldest_ms", "total_ms"):
        check_range(name, getattr(checked, name), MAX_MS)
    if len(checked.answers) > MAX_ANSWERS:
        raise MessageError(f"answers: more than {MAX_ANSWERS}")
    for kind, number in checked.answers.items():
        check_range("answers", number, MAX_COUNT)
        if len(kind) > MAX_ANSWER_CHARACTERS or not (kind.isascii() and kind.isprintable()):
            raise MessageError("answers: expected the names of answers")
    return checked


def check_failures_key(failures_key: str, chunk: ImportChunk) -> None:
    """Raise MessageError if the failures file does not belong to the chunk's job.

    Otherwise a faulty worker could make one user's job show the rows of another user.
    """
    check_text("failures_key", failures_key)
    if failures_key and not failures_key.startswith(f"{chunk.job_id}/"):
        raise MessageError("failures_key: does not belong to this job")


def check_tried_rows(report: Finish | Release, chunk: ImportChunk) -> None:
    """Raise MessageError if a report counts more rows than the chunk has, or more failed rows than tried ones."""
    check_range("rows_tried", report.rows_tried, chunk.row_count)
    check_range("rows_failed", report.rows_failed, report.rows_tried)


def _checked_problem(problem: Any, chunk: ImportChunk) -> dict[str, Any]:
    if not isinstance(problem, dict):
        raise MessageError("problems: expected objects")
    field = problem.get("field")
    checked = {
        "field": None if field is None else _checked_words("field", field, MAX_NAME_CHARACTERS),
        "code": _checked_words("code", problem.get("code"), MAX_NAME_CHARACTERS),
        "message": _checked_words("message", problem.get("message"), MAX_MESSAGE_CHARACTERS),
        "count": problem.get("count"),
        "first_index": problem.get("first_index"),
    }
    # A count can be higher than the number of rows in the chunk, so MAX_COUNT limits it. For example, the last problem
    # stands for all problems that are not listed, and a row with several of these is counted several times.
    check_range("count", checked["count"], MAX_COUNT, least=1)
    check_range("first_index", checked["first_index"], chunk.first_index + chunk.row_count - 1)
    return checked


def _checked_words(name: str, text: Any, max_characters: int) -> str:
    """Return the text, with each character that the database would refuse replaced.

    The text comes from a response of the create endpoint, so it may contain any character.
    """
    if not isinstance(text, str) or len(text) > max_characters:
        raise MessageError(f"{name}: expected at most {max_characters} characters")
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def check_range(name: str, value: Any, most: int, *, least: int = 0) -> None:
    """Raise MessageError unless the value is an integer from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise MessageError(f"{name}: expected {least} to {most}")


def check_text(name: str, text: str) -> None:
    """Raise MessageError if the text is too long for an S3 key, or contains characters that cannot be printed."""
    if len(text) > MAX_KEY_CHARACTERS or not text.isprintable():
        raise MessageError(f"{name}: expected at most {MAX_KEY_CHARACTERS} printable characters")
