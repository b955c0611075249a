"""Problems: failures with the same cause, grouped for people ("category: object does not exist", 412 rows).

The worker groups the failures of a chunk, and the monolith merges the groups of all chunks of a job. This module uses
the standard library only, so that both sides can import it. A problem is a dict, in the form that the API shows:
`{"field": "category", "code": "does_not_exist", "message": "…", "count": 412, "first_index": 17}`.
`field` is None if the error does not belong to one field. The monolith adds `first_line`, the line of the first row in
the user's file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PROBLEMS = 50
"""Maximum number of problems in a list. The rows of all further problems are counted in one more entry, `OTHER`."""

MAX_MESSAGE_CHARACTERS = 300
"""Maximum length of a message. It comes from the endpoint's response, which may be of any length."""

MAX_NAME_CHARACTERS = 100
"""Maximum length of a field name or code. They come from the endpoint's response, too."""

OTHER = {"field": None, "code": "other", "message": "Other reasons; the failures list each of them."}
"""Entry for the problems beyond MAX_PROBLEMS.

`merge_problems` recognizes the entry by these values. Jobs in the database contain them, so they must not change.
"""


def problem(field: str | None, code: str, message: str, index: int) -> dict[str, Any]:
    """Return the problem of the single row `index`. Texts that are too long are cut off."""
    return {
        "field": None if field is None else _cut(field, MAX_NAME_CHARACTERS),
        "code": _cut(code, MAX_NAME_CHARACTERS),
        "message": _cut(message, MAX_MESSAGE_CHARACTERS),
        "count": 1,
        "first_index": index,
    }


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def merge_problems(lists: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge lists of problems into one, and return it. The arguments stay unchanged.

    Problems with the same field, code and message become one whose count is the sum. The most frequent come first. The
    result has at most MAX_PROBLEMS entries and, if necessary, the entry `OTHER` for the rest.
    """
    merged: dict[tuple[str | None, str, str], dict[str, Any]] = {}
    for problems in lists:
        for entry in problems:
            key = (entry["field"], entry["code"], entry["message"])
            if known := merged.get(key):
                first = entry if entry["first_index"] < known["first_index"] else known
                known.update(first, count=known["count"] + entry["count"])
            else:
                merged[key] = dict(entry)
    # An earlier merge may have produced OTHER. It stays last, however many rows it counts.
    other = merged.pop((OTHER["field"], OTHER["code"] or "", OTHER["message"] or ""), None)
    ranked = sorted(merged.values(), key=lambda entry: (-entry["count"], _first_index(entry)))
    kept, rest = ranked[:MAX_PROBLEMS], ranked[MAX_PROBLEMS:]
    rest += [other] if other else []
    if rest:
        count = sum(entry["count"] for entry in rest)
        first = min(rest, key=_first_index)
        kept.append({**first, **OTHER, "count": count})
    return kept


def _first_index(entry: dict[str, Any]) -> int:
    index: int = entry["first_index"]
    return index
