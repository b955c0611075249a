"""Formats of the lines that both sides store in S3: payload lines and failure lines.

The monolith writes the payload and the worker reads it. The worker writes the failures file and the monolith
reads it. Each file has one line per row. Both formats carry a row as the exact bytes that were sent: decoding
and encoding it again could change a number on its way through a float, for example 12.50 to 12.5.
"""

from __future__ import annotations

import json
from typing import Any

REFUSED_MARK = b"!"
"""First byte of the payload line of a refused row. It marks the line unambiguously: no JSON text starts with it."""

ROW_SEPARATOR = b', "row": '
"""Bytes between the description of a failure and the row's own bytes.

The first occurrence in a line is always the separator. Inside a JSON string, these quotes would have a backslash.
"""


def refused_line(row: bytes, errors: list[dict[str, Any]]) -> bytes:
    """Return the payload line of a row that validation refused. The worker does not send it to the endpoint.

    `errors` are the reasons, each a dict with the keys field, code and message.
    """
    return REFUSED_MARK + json.dumps(errors).encode() + b"\t" + row


def read_refused_line(line: bytes) -> tuple[bytes, list[dict[str, Any]]] | None:
    """Return the row and the errors of a refused line. Return None for any other line, which is the row itself."""
    if not line.startswith(REFUSED_MARK):
        return None
    errors, _, row = line.removeprefix(REFUSED_MARK).partition(b"\t")
    return row, json.loads(errors)


def failure_line(description: dict[str, Any], row: bytes) -> bytes:
    """Return one line of the failures file: a JSON object with the members of `description`, then the row.

    The row is the last member and is copied byte for byte.
    """
    return json.dumps(description, ensure_ascii=False).encode()[:-1] + ROW_SEPARATOR + row + b"}\n"


def read_failure_line(line: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the arguments that `failure_line` was called with. The line may lack its newline.

    Raises ValueError if the description is not JSON. The row is not checked.
    """
    description, _, row = line.removesuffix(b"\n").removesuffix(b"}").partition(ROW_SEPARATOR)
    return json.loads(description + b"}"), row
