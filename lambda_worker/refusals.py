"""What an answer of the create endpoint has against a row, as the failures tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_worker.monolith_client import Answer

CANCELLED = [{"field": None, "code": "cancelled", "message": "The import was cancelled before this row's turn."}]


def describe(answer: Answer | None) -> str:
    """What came, in our own words: fit for a log, which must not hold what the endpoint says of a row."""
    if answer is None:
        return "The endpoint did not answer."
    text = f"The endpoint answered {answer.status}"
    if not answer.row_verdict:
        text += " without a word of the ledger; is ImportedRowMiddleware the last in MIDDLEWARE?"
    return text


def errors_of(answer: Answer | None) -> list[dict[str, Any]]:
    """What the answer has against the row, `{"field", "code", "message"}` each; at least one."""
    if answer is None:
        return _error("no_answer", describe(answer))
    document = answer.json()
    if answer.row_verdict and isinstance(document, dict):
        listed = document.get("errors")  # as the ledger passes them on; an endpoint without DRF may say anything
        if isinstance(listed, list) and (errors := [known for error in listed if (known := _read_error(error))]):
            return errors
        if error := _read_error(document):
            return [error]
    return _error(f"http_{answer.status}", describe(answer))


def _read_error(error: object) -> dict[str, Any] | None:
    """A `{"field", "code", "message"}` of the answer; None when it has no message."""
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    field, code = error.get("field"), error.get("code", "")
    return {
        "field": None if field is None else _storable(str(field)),
        "code": _storable(str(code)),
        "message": _storable(error["message"]),
    }


def _storable(text: str) -> str:
    """Without what UTF-8 or a PostgreSQL text cannot hold: lone surrogates and NUL."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _error(code: str, message: str) -> list[dict[str, Any]]:
    return [{"field": None, "code": code, "message": message}]
