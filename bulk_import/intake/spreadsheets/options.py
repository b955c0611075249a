"""What an upload says about how its file is to be read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """The query parameters about the file, with the same names. Without them, a file is read as it says itself."""

    sheet: str = ""
    encoding: str = ""  # a key of ENCODINGS, or "" to find it out
    locale: str = ""  # a key of LOCALES, or "" to leave all values as they are
    columns: dict[str, str | None] = field(default_factory=dict)  # field by column; None ignores the column
    decimal: dict[str, str] = field(default_factory=dict)  # decimal separator by field
    unknown: str = "ignore"  # or "reject"
    damage: str = "reject"  # or "accept"
