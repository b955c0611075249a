"""Notes the fields of JSON rows that the target does not have. Its serializer ignores them without a word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

MAX_NAMES = 100
"""Maximum number of names that are listed, and of errors for one row."""

MAX_NAME_CHARACTERS = 100
"""Longest name in an answer. It comes from the client."""


@dataclass(slots=True)
class UnknownFields:
    """The unknown fields of all rows, in `names`. With `refuse`, each of them is also an error of its row."""

    known: set[str]
    refuse: bool
    names: list[str] = field(default_factory=list)

    def errors(self, row: Any) -> list[dict[str, Any]]:
        """Note the unknown fields of a row. Return their errors if they are refused."""
        if type(row) is not dict or row.keys() <= self.known:
            return []
        unknown = [name[:MAX_NAME_CHARACTERS] for name in row if name not in self.known][:MAX_NAMES]
        new = [name for name in unknown if name not in self.names]
        self.names += new[: MAX_NAMES - len(self.names)]
        if not self.refuse:
            return []
        message = _("There is no such field. Remove it, or correct its name.")
        return [{"field": name, "code": "unknown_field", "message": message} for name in unknown]

    def accept(self, rows: list[dict[str, Any]], names: set[str]) -> bool:
        """Note the unknown fields of several rows, which have fields of these names. Return whether none is refused."""
        if names <= self.known:
            return True
        if not self.refuse and not names <= self.known.union(self.names):
            for row in rows:
                self.errors(row)
        return not self.refuse
