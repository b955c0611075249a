"""Text in the cells of a CSV: what a spreadsheet would run as a formula has an apostrophe in front.

`inert` writes a cell, `as_sent` reads it: what goes out and comes back is the same again.
"""

from __future__ import annotations

import re

# A spreadsheet skips blanks and what has no width, marks of direction among it, and takes the wide forms of the signs
# for the signs. Apostrophes that are there already get one more, or else `as_sent` would take away one that was sent.
FORMULA = re.compile(
    r"'*(?:[\t\r\n]|[\s\x00-\x1f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*"
    r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b])"
)


def inert(text: str) -> str:
    """The text for a cell. NUL, which ends a text for many a program, becomes U+FFFD."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return "'" + text if FORMULA.match(text) else text


def as_sent(cell: str) -> str:
    """The text of a cell: what `inert` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
