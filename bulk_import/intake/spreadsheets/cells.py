"""Reads the cells of one column. What a cell means depends on the field of the column and on the rest of the column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bulk_import.intake.spreadsheets import damage
from bulk_import.intake.spreadsheets.locales import LOCALES
from bulk_import.intake.spreadsheets.numbers_and_dates import BooleanColumn, DateColumn, NumberColumn, Result
from bulk_import.intake.spreadsheets.target_fields import Kind

if TYPE_CHECKING:
    from bulk_import.intake.spreadsheets.options import ReadingOptions
    from bulk_import.intake.spreadsheets.target_fields import TargetField

MAX_DIGITS = 30
"""Longest text of digits for which lost zeros are looked for."""


class TextReader(Protocol):
    """Reads the texts of a column."""

    def observe(self, text: str) -> None: ...

    def read(self, text: str) -> Result: ...


class TextColumn:
    """Reads texts. With `checks_damage`, a text that a spreadsheet has probably damaged is an error."""

    def __init__(self) -> None:
        self._padded: set[int] = set()  # lengths of the digits that begin with a zero
        self._longest = 0

    def observe(self, text: str) -> None:
        if text.isdecimal() and len(text) <= MAX_DIGITS:
            self._longest = max(self._longest, len(text))
            if text[0] == "0" and len(text) > 1:
                self._padded.add(len(text))

    def read(self, text: str) -> Result:
        if self._padded and text.isdecimal() and self._padded == {self._longest} and len(text) < self._longest:
            return text, damage.lost_zeros(text, self._longest)
        return text, damage.damaged_text(text)


def text_reader(field: TargetField, options: ReadingOptions) -> TextReader | None:
    """Return the reader for the texts of a field; None if they stay as they are."""
    locale = LOCALES.get(options.locale)
    decimal = options.decimal.get(field.name, "")
    if field.kind in {Kind.NUMBER, Kind.INTEGER} and (locale or decimal):
        return NumberColumn(field.name, locale, decimal, is_integer=field.kind is Kind.INTEGER)
    if field.kind is Kind.DATE and locale:
        return DateColumn(locale)
    if field.kind is Kind.BOOLEAN and locale:
        return BooleanColumn(locale)
    return TextColumn() if field.kind is Kind.TEXT and options.damage == "reject" else None


class ColumnCells:
    """Reads the cells of a column that is read as a field. `example` is the first value that was changed."""

    def __init__(self, field: TargetField, options: ReadingOptions) -> None:
        self._kind = field.kind
        self._texts = text_reader(field, options)
        self._checks_damage = options.damage == "reject"
        self.example: tuple[str, str] | None = None

    @property
    def needs_all_cells(self) -> bool:
        """Whether `observe` has to see every cell before `read` is called."""
        return self._texts is not None

    def observe(self, cell: Any) -> None:
        if self._texts is not None:
            if type(cell) is str:
                self._texts.observe(cell)
            elif type(cell) is int and self._kind is Kind.TEXT:
                self._texts.observe(str(cell))

    def read(self, cell: Any) -> tuple[Any, dict[str, Any] | None]:
        """Return the value for the row, and the error of a cell that cannot be read with certainty."""
        if type(cell) is str:
            if self._texts is None:
                return cell, None
            value, error = self._texts.read(cell)
            if value is not cell and value != cell and self.example is None:
                self.example = cell, value
            return value, error
        if isinstance(cell, dict):
            return self._read_special(cell)
        return cell, self._number_error(cell)

    def _read_special(self, cell: dict[str, str]) -> tuple[Any, dict[str, Any] | None]:
        """Return the ISO format of a date, and an error if the field is no date or the cell has no value."""
        if "error" in cell:
            is_error = cell["error"] == "formula_error"
            return None, damage.formula_error("#") if is_error else damage.formula_without_result()
        is_wrong = self._kind not in {Kind.DATE, Kind.OTHER}
        is_kept = self._kind is Kind.TEXT and not self._checks_damage
        return cell["date"], damage.excel_date(cell["date"]) if is_wrong and not is_kept else None

    def _number_error(self, cell: Any) -> dict[str, Any] | None:
        if cell is None or isinstance(cell, bool):
            return None
        if abs(cell) >= damage.EXCEL_DIGITS:
            return damage.lost_digits(str(cell))
        if self._kind is Kind.TEXT and type(cell) is int and isinstance(self._texts, TextColumn):
            return self._texts.read(str(cell))[1]
        return None
