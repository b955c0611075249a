"""Limits of an upload that keep its processing time in proportion to its rows.

A small file can be a lot of work: gzip turns a few bytes into millions of blank lines or empty cells. MAX_BODY_BYTES
and MAX_ROWS do not limit this work, so these limits do. No file that describes rows for a create endpoint comes near
them.
"""

from __future__ import annotations

from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BodyTooLarge

LINES_PER_ROW = 10
SPARE_LINES = 10_000
"""A file may have LINES_PER_ROW lines for each of MAX_ROWS rows, and SPARE_LINES more.

Blank lines and line breaks inside cells count.
"""

VALUES_PER_ROW = 100
SPARE_VALUES = 500_000
"""A file may have SPARE_VALUES values, and VALUES_PER_ROW more for each row. A value is a cell of a CSV, or a field or
an element of JSON, at any depth. So the rows of a small file may be very large, while those of a file with many rows
may have little more than VALUES_PER_ROW values on average.
"""


def max_lines() -> int:
    """Return the number of lines that a file may have."""
    return conf().max_rows * LINES_PER_ROW + SPARE_LINES


def too_many_lines() -> BodyTooLarge:
    """Return the error for a file with more than `max_lines` lines."""
    message = _("This file has more than %(limit)d lines, which is the limit. Remove blank lines, or split the file.")
    return BodyTooLarge(message % {"limit": max_lines()}, code="too_many_lines")


def check_values(values: int, rows: int) -> None:
    """Raise BodyTooLarge if the first `rows` rows of a file have too many values."""
    if values > SPARE_VALUES + VALUES_PER_ROW * rows:
        message = _("This file has too many values for its number of rows. Split it into several files.")
        raise BodyTooLarge(message, code="too_many_values")
