"""What every kind of table is read into: records, each with the number of its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Record(NamedTuple):
    """The cells of one line of a CSV, or of one row of a sheet.

    A cell of a CSV is a string. A cell of a sheet may also be a number, a truth value, or None if it is empty.
    """

    line: int
    cells: list[Any]


class Source(Protocol):
    """A file that contains a table. Its records can be read several times."""

    def records(self) -> Iterator[Record]:
        """Yield the records that are not blank. Raises BadImport, with the line, if the file is malformed."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the answers say about how the file was read: `format`, and what applies to this format."""
        ...

    def read_cell(self, cell: Any) -> Any:
        """Return what a cell that is not empty means: for a string of a CSV, without the apostrophes that we added."""
        ...
