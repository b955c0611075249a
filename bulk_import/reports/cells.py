"""Escapes text in the cells of a CSV, so that a spreadsheet does not run it as a formula.

A sign that a spreadsheet could take for the start of a formula gets an apostrophe in front. At the beginning of a
cell, spreadsheets do not show this apostrophe. `escape_cell` adds the apostrophes when a CSV is written, and
`unescape_cell` removes them when a corrected CSV is uploaded. The text is the same again afterwards.

The program that opens the file may expect another separator than the one that we wrote, or may split the file into
lines without regard to quotation marks. Then a new cell begins in the middle of a text. So every sign that follows a
separator is escaped too: "x;=1+1" becomes "x;'=1+1".
"""

from __future__ import annotations

import re

CLEAR_MARK = "(clear)"
"""Text of a cell that clears the field of an object in an update. An empty cell leaves the field as it is."""

SEPARATORS = r",;\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
"""Characters after which some program begins a new cell: what separates cells or ends a line."""

IGNORED = r' "\x00-\x08\x0e-\x1b\x1f\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u202a-\u202f\u205f-\u2069\u3000\ufeff'
"""Characters that may stand between the beginning of a cell and its formula: blanks, quotation marks, control
characters, characters of zero width and direction marks."""

SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b"
"""Characters that begin a formula, also in their full-width and small forms."""

FORMULA = rf"'*[{IGNORED}]*[{SIGNS}]"
BREAK = r"'*[\t\r\n]"
"""What gets an apostrophe in front: FORMULA at the beginning of the text and after each separator, and BREAK at the
beginning of the text only.

Both patterns also match text that already has apostrophes in front. For example, "'=1" becomes "''=1", so that
`unescape_cell` removes only the apostrophe that `escape_cell` added.
"""

UNESCAPED = re.compile(rf"\A(?={BREAK})|(?:\A|(?<=[{SEPARATORS}]))(?={FORMULA})")
"""The positions where an apostrophe is needed."""

ESCAPED = re.compile(rf"'(?:(?<=\A')(?={BREAK})|(?:(?<=\A')|(?<=[{SEPARATORS}]'))(?={FORMULA}))")
"""The apostrophes at these positions. The pattern begins with the apostrophe, because it is then searched faster."""


def escape_cell(text: str) -> str:
    """Return the text as it is written to a cell. NUL becomes U+FFFD, because many programs cut a text at a NUL."""
    return UNESCAPED.sub("'", text.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def unescape_cell(cell: str) -> str:
    """Return the text that was passed to `escape_cell` to write this cell."""
    return ESCAPED.sub("", cell) if "'" in cell else cell
