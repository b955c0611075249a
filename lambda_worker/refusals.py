"""Reads the reasons why a row was not created from the create endpoint's response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulk_import_wire.contract import RowVerdict
from lambda_worker.retries import FORBIDDEN, SUCCESS

if TYPE_CHECKING:
    from lambda_worker.monolith_client import Answer

CANCELLED = [{"field": None, "code": "cancelled", "message": "The import was cancelled before this row was created."}]
"""The errors of a row that is unprocessed because the job was cancelled."""


def describe(answer: Answer | None) -> str:
    """Describe the response in our own words, for the log. The endpoint's words could contain a value of the row."""
    if answer is None:
        return "The endpoint did not answer."
    text = f"The endpoint returned {answer.status}"
    if answer.row_verdict == RowVerdict.WRONG_ENDPOINT:
        text += ": the call reached another path than the create endpoint. Check BULK_IMPORT_BASE_URL."
    elif answer.row_verdict and answer.status in SUCCESS:
        text += ", which is not one of the success_statuses of its target in BULK_IMPORT."
    elif not answer.row_verdict and answer.status in FORBIDDEN:
        text += " without a verdict header: something in front of the site rejected the call. See TOKEN_HEADER."
    elif not answer.row_verdict:
        text += " without a verdict header. Is ImportedRowMiddleware the last entry of MIDDLEWARE?"
    return text


def errors_of(answer: Answer | None) -> list[dict[str, Any]]:
    """Return why the row was not created: at least one dict with the keys field, code and message."""
    if answer is None:
        return _error("no_answer", describe(answer))
    document = answer.json()
    if answer.row_verdict and isinstance(document, dict):
        # The middleware formats the errors of an endpoint that uses DRF. Any other endpoint may return anything.
        listed = document.get("errors")
        if isinstance(listed, list) and (errors := [known for error in listed if (known := _read_error(error))]):
            return errors
        if error := _read_error(document):
            return [error]
    return _error(f"http_{answer.status}", describe(answer))


def _read_error(error: object) -> dict[str, Any] | None:
    """Return the field, code and message of an error in the response, or None if it has no message."""
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    field, code = error.get("field"), error.get("code", "")
    return {
        "field": None if field is None else _storable(str(field)),
        "code": _storable(str(code)),
        "message": _storable(error["message"]),
    }


def _storable(text: str) -> str:
    """Replace lone surrogates and NUL with question marks, because UTF-8 or PostgreSQL cannot store them."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _error(code: str, message: str) -> list[dict[str, Any]]:
    return [{"field": None, "code": code, "message": message}]
