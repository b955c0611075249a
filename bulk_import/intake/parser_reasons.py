"""Turns the errors of the CSV and JSON parsers into plain, translated reasons.

The parsers report errors in English and in their own terms, for example "EOF while parsing a string". A reason says
the same in words that the author of the file understands: "a closing quotation mark is missing".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

UNCLOSED_QUOTE = gettext_lazy("a closing quotation mark is missing")
ENDS_TOO_EARLY = gettext_lazy("the JSON ends too early")
NO_VALUE = gettext_lazy("a value is missing or not valid")
NO_COLON = gettext_lazy("a colon is missing")
NO_COMMA = gettext_lazy("a comma or a closing bracket is missing")
NO_NAME = gettext_lazy("a field name in double quotation marks is missing")
EXTRA_COMMA = gettext_lazy("there is a comma after the last value")
BAD_ESCAPE = gettext_lazy("a backslash is followed by characters that are not valid")
BAD_NUMBER = gettext_lazy("a number is not valid")
CONTROL_CHARACTER = gettext_lazy("a text contains a line break, a tab or another control character")
MORE_DATA = gettext_lazy("there is more after the end of the row")

REASONS: dict[str, _StrPromise] = {
    # csv
    "unexpected end of data": UNCLOSED_QUOTE,
    # json
    "Unterminated string starting at": UNCLOSED_QUOTE,
    "Expecting value": NO_VALUE,
    "Expecting ':' delimiter": NO_COLON,
    "Expecting ',' delimiter": NO_COMMA,
    "Expecting property name enclosed in double quotes": NO_NAME,
    "Illegal trailing comma before end of object": EXTRA_COMMA,
    "Illegal trailing comma before end of array": EXTRA_COMMA,
    "Invalid \\escape": BAD_ESCAPE,
    "Invalid \\uXXXX escape": BAD_ESCAPE,
    "Invalid control character at": CONTROL_CHARACTER,
    # jiter
    "EOF while parsing a string": UNCLOSED_QUOTE,
    "EOF while parsing a list": ENDS_TOO_EARLY,
    "EOF while parsing an object": ENDS_TOO_EARLY,
    "EOF while parsing a value": ENDS_TOO_EARLY,
    "expected value": NO_VALUE,
    "expected ident": NO_VALUE,
    "expected `:`": NO_COLON,
    "expected `,` or `]`": NO_COMMA,
    "expected `,` or `}`": NO_COMMA,
    "key must be a string": NO_NAME,
    "trailing comma": EXTRA_COMMA,
    "invalid escape": BAD_ESCAPE,
    "unexpected end of hex escape": BAD_ESCAPE,
    "lone leading surrogate in hex escape": BAD_ESCAPE,
    "invalid number": BAD_NUMBER,
    "number out of range": gettext_lazy("a number is too large"),
    "control character (\\u0000-\\u001F) found while parsing a string": CONTROL_CHARACTER,
    "trailing characters": MORE_DATA,
    "invalid unicode code point": gettext_lazy("a character is not valid UTF-8"),
    "recursion limit exceeded": gettext_lazy("it is nested too deeply"),
}
"""The reason for each message of a parser."""

TEXT_AFTER_QUOTE = re.compile(r"'.' expected after '.'")
"""What csv reports for a cell such as `"a"b`. The characters are the delimiter and the quotation mark."""

DUPLICATE_NAME = re.compile(r'Detected duplicate key "(.*)"', re.DOTALL)
"""What jiter reports for an object such as `{"sku": 1, "sku": 2}`."""

POSITION = re.compile(r"(.*) at line (\d+) column (\d+)", re.DOTALL)
"""What jiter adds to every error."""


def plain_reason(parser_message: str) -> str:
    """Return the reason for a parser's message in the active language. An unknown message is returned unchanged.

    The position that jiter adds is kept.
    """
    position = POSITION.fullmatch(parser_message)
    if position:
        text, line, column = position.groups()
        where = {"reason": plain_reason(text), "line": line, "column": column}
        return _("%(reason)s at line %(line)s, column %(column)s") % where
    if TEXT_AFTER_QUOTE.fullmatch(parser_message):
        return _("there is text after a closing quotation mark")
    duplicate = DUPLICATE_NAME.fullmatch(parser_message)
    if duplicate:
        return _("the field name “%(name)s” occurs twice") % {"name": duplicate[1]}
    return str(REASONS.get(parser_message, parser_message))
