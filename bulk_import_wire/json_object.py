"""The JSON objects that the two sides exchange: their fields are checked when they are read.

This module uses the standard library only, so that both sides can import it.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, NamedTuple, Self, get_args, get_origin, get_type_hints


class MessageError(ValueError):
    """The data does not follow the contract. The receiver must not read a payload or call the monolith for it."""


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Base of a flat JSON object with the fields of its dataclass.

    Each release may add fields that have a default. So the sides may have different releases for a while: a field that
    this side does not know is ignored, and one that the other side does not know has its default.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the fields. Lists and objects in them are the same, not copies."""
        own_class: Any = type(self)
        return {name: getattr(self, name) for name in _fields(own_class).types}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Build the object from decoded JSON.

        Raises MessageError if a field without a default is missing, or if a field is of another type. The error names
        our own fields only and never repeats a part of the data, because it may end up in a log.
        """
        if not isinstance(data, dict):
            raise MessageError(f"expected a JSON object, got {type(data).__name__}")
        known_fields = _fields(cls)  # type: ignore[arg-type] # mypy does not know that a class is hashable
        if missing := known_fields.required - data.keys():
            raise MessageError(f"fields missing: {', '.join(sorted(missing))}")
        known = {}
        for name, expected in known_fields.types.items():
            if name in data:
                known[name] = data[name]
                if not _has_type(data[name], expected):
                    raise MessageError(f"{name}: expected {expected}, got {type(data[name]).__name__}")
        return cls(**known)


class _Fields(NamedTuple):
    types: dict[str, Any]  # by name
    required: frozenset[str]  # the names of those without a default


@cache
def _fields(object_type: Any) -> _Fields:
    """Return the fields of a class. They are cached, because reading the annotations takes longer than the rest."""
    types, found = get_type_hints(object_type), fields(object_type)
    required = frozenset(f.name for f in found if f.default is MISSING and f.default_factory is MISSING)
    return _Fields({f.name: types[f.name] for f in found}, required)


def _has_type(value: object, expected: Any) -> bool:
    """Return whether decoded JSON has exactly the expected type. The items of a list are checked too.

    The comparison is exact, so a bool is not accepted as an int although `isinstance(True, int)` is true.
    """
    if type(value) is expected:
        return True
    if get_origin(expected) is list:
        (item_type,) = get_args(expected)
        return isinstance(value, list) and all(_has_type(item, item_type) for item in value)
    return type(value) is get_origin(expected)
