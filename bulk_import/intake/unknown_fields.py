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

    def errors(self, rows: dict[int, dict[str, Any]], names: set[str]) -> dict[int, list[dict[str, Any]]]:
        """Note the unknown fields of several rows. Return the errors of each row that has any, with the row's key.

        `names` are all fields of the rows.
        """
        noted = self.known if self.refuse else self.known.union(self.names)
        if names <= noted:
            return {}
        return {key: errors for key, row in rows.items() if (errors := self._errors(row))}

    def _errors(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        if row.keys() <= self.known:
            return []
        unknown = [name[:MAX_NAME_CHARACTERS] for name in row if name not in self.known][:MAX_NAMES]
        new = [name for name in unknown if name not in self.names]
        self.names += new[: MAX_NAMES - len(self.names)]
        if not self.refuse:
            return []
        message = _("There is no such field. Remove it, or correct its name.")
        return [{"field": name, "code": "unknown_field", "message": message} for name in unknown]
