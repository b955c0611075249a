"""What every format is turned into: raw JSON rows, so limits and errors are the same for all."""

from __future__ import annotations

from typing import Any, NamedTuple

MEBIBYTE = 1024 * 1024


class RawRow(NamedTuple):
    """One row as JSON, the line where it begins, and what is wrong with its cells.

    A row of a JSON array has no line number. Only the rows of tables have errors already: those of cells that cannot be
    read with certainty, each with `field`, `code` and `message`.
    """

    json: bytes
    line: int | None = None
    has_cells: bool = False  # whether the values are those of cells
    errors: list[dict[str, Any]] | tuple[()] = ()
