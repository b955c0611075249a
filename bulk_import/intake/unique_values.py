"""Finds rows of an import that have the same value in a unique field as an earlier row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_VALUES = (None, "")
"""Values that several rows may have. The database stores null for most of them."""


class UniqueValues:
    """The values that the rows so far have in the unique fields.

    `fields` are the names of these fields, each with the key of its value in the validated values of a row.
    """

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        # For each field, also the index of the first row with each value.
        self._fields: list[tuple[str, str, dict[Any, int]]] = [(name, source, {}) for name, source in fields]

    def errors(self, validated: dict[str, Any], index: int) -> list[dict[str, Any]]:
        """Return an error for each value of the row that an earlier valid row has. Without errors, add its values."""
        errors = []
        for name, source, first_index in self._fields:
            value = validated.get(source)
            if value not in NO_VALUES and value in first_index:
                message = _("An earlier row of this import has the same %(field)s.") % {"field": name}
                error = {"field": name, "code": "duplicate", "message": message, "first_index": first_index[value]}
                errors.append(error)
        # An invalid row is not imported, so its other values stay available to later rows.
        if not errors:
            self.add([validated], index)
        return errors

    def add(self, rows: list[dict[str, Any]], index: int) -> bool:
        """Add the validated values of several rows, the first of which has this index.

        Returns False, and adds nothing, if a value occurs twice.
        """
        added = []
        for _name, source, first_index in self._fields:
            values = [row.get(source) for row in rows]
            new = {value: at for at, value in enumerate(values, index) if value not in NO_VALUES}
            has_twice = len(new) < len(values) - sum(value in NO_VALUES for value in values)
            if has_twice or not first_index.keys().isdisjoint(new):
                return False
            added.append((first_index, new))
        for first_index, new in added:
            first_index.update(new)
        return True
