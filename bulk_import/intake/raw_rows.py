"""What every format is turned into: raw JSON rows, so limits and errors are the same for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE = 1024 * 1024


class RawRow(msgspec.Struct, frozen=True, gc=False):  # made for each row, in a fifth of the time of a NamedTuple
    """One row as JSON, the line where it begins, and what is wrong with its cells.

    A row of a JSON array has no line number. Only the rows of tables have errors already: those of cells that cannot be
    read with certainty, each with `field`, `code` and `message`.
    """

    json: bytes
    line: int | None = None
    has_cells: bool = False  # whether the values are those of cells
    errors: list[dict[str, Any]] | tuple[()] = ()
    fields: dict[str, Any] | None = None  # the parsed row, if it was parsed together with the rows around it

    def changed(self, json: bytes, errors: list[dict[str, Any]] | tuple[()]) -> RawRow:
        """Return the same row with other JSON and other errors."""
        return msgspec.structs.replace(self, json=json, errors=errors, fields=None)


@runtime_checkable
class ReadRows(Protocol):
    """Rows that say how their file was read, such as those of a table."""

    @property
    def reading(self) -> dict[str, Any]:
        """How the file was read, for the answers of the API."""
        ...

    def __iter__(self) -> Iterator[RawRow]: ...
