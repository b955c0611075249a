"""Finds rows of an import that have the same value in a unique field as an earlier row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LACKING = frozenset({None, ""})
"""The values of rows that lack a value. Several rows may."""


class UniqueValues:
    """The values that the rows so far have in the unique fields.

    `fields` are the names of these fields, each with the key of its value in the validated values of a row.
    """

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        # For each field, also the index of the first row with each value.
        self._fields: list[tuple[str, str, dict[Any, int]]] = [(name, source, {}) for name, source in fields]

    def errors(self, validated: dict[str, Any], index: int, *, is_valid: bool = True) -> list[dict[str, Any]]:
        """Return an error for each value of the row that an earlier valid row has. Without errors, add its values.

        `is_valid` is False if the row has other errors.
        """
        errors = []
        new: list[tuple[dict[Any, int], Any]] = []
        for name, source, first_index in self._fields:
            value = validated.get(source)
            if value is None or value == "":
                continue
            if value in first_index:
                message = _("An earlier row of this import has the same %(field)s.") % {"field": name}
                error = {"field": name, "code": "duplicate", "message": message, "first_index": first_index[value]}
                errors.append(error)
            new.append((first_index, value))
        # An invalid row is not imported, so its other values stay available to later rows.
        if is_valid and not errors:
            for first_index, value in new:
                first_index[value] = index
        return errors

    def add_new(self, columns: dict[str, list[Any]], indexes: Sequence[int]) -> bool:
        """Add the values of several rows, if none of them occurs twice. Otherwise add nothing and return False.

        `columns` are the validated values of each field. A field that no row has may be missing. This takes a fraction
        of the time of `errors` for each row.
        """
        new = []
        try:
            for _name, source, first_index in self._fields:
                values = columns.get(source, [])
                found = dict(zip(values, indexes, strict=False))
                lacking = sum(map(values.count, LACKING & found.keys()))
                for value in LACKING & found.keys():
                    del found[value]
                if len(found) + lacking < len(values) or not first_index.keys().isdisjoint(found):
                    return False
                new.append((first_index, found))
        except TypeError:  # a value that cannot be in a dict, such as a list
            return False
        for first_index, found in new:
            first_index.update(found)
        return True
