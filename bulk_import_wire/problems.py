"""Problems: like failures, grouped for people ("category: object does not exist", 412 rows).

Standard library only: the worker groups the failures of a chunk, the monolith merges those of a job.
A problem is a plain dict, as the API shows it:
`{"field": "category", "code": "does_not_exist", "message": "…", "count": 412, "first_index": 17}`.
`field` is null where the error is not of one field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PROBLEMS = 50
"""Groups kept; what does not fit is counted in one last group, `OTHER`."""

MAX_MESSAGE_CHARACTERS = 300
MAX_NAME_CHARACTERS = 100
"""Of a field or code: they come from the endpoint's answer, which may say anything."""

OTHER = {"field": None, "code": "other", "message": "Other reasons; the failures list each of them."}


def problem(field: str | None, code: str, message: str, index: int) -> dict[str, Any]:
    """The problem of a single row."""
    return {
        "field": None if field is None else _cut(field, MAX_NAME_CHARACTERS),
        "code": _cut(code, MAX_NAME_CHARACTERS),
        "message": _cut(message, MAX_MESSAGE_CHARACTERS),
        "count": 1,
        "first_index": index,
    }


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def merge_problems(groups: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge like problems; the most frequent first, at most MAX_PROBLEMS of them and one for the rest."""
    merged: dict[tuple[str | None, str, str], dict[str, Any]] = {}
    for group in groups:
        for entry in group:
            key = (entry["field"], entry["code"], entry["message"])
            if known := merged.get(key):
                known["count"] += entry["count"]
                known["first_index"] = min(known["first_index"], entry["first_index"])
            else:
                merged[key] = dict(entry)
    other = merged.pop((OTHER["field"], OTHER["code"] or "", OTHER["message"] or ""), None)
    ranked = sorted(merged.values(), key=lambda entry: (-entry["count"], entry["first_index"]))
    kept, rest = ranked[:MAX_PROBLEMS], ranked[MAX_PROBLEMS:]
    rest += [other] if other else []
    if rest:
        count = sum(entry["count"] for entry in rest)
        kept.append({**OTHER, "count": count, "first_index": min(entry["first_index"] for entry in rest)})
    return kept
