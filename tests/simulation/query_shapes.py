"""What the SQL of a recorded queryset depends on, and markers in place of the values that it does not depend on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.expressions import Subquery

from tests.simulation.recorded_querysets import is_recorded, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILTERS = {"filter", "exclude", "get"}
"""The calls whose arguments are values. The arguments of the others are names, and so the SQL depends on them."""

CONSTANTS = {type(None), bool, float, timedelta}
COLLECTIONS = {tuple, list, set, frozenset}
MARKERS: dict[type, Callable[[int], Any]] = {
    str: lambda number: f"marker {number}",
    int: lambda number: 1_000_000_000 + number,
    uuid.UUID: lambda number: uuid.UUID(int=2**100 + number),
    datetime: lambda number: datetime(2001, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    bytes: lambda number: b"marker %d" % number,
}
"""The types of values, each with a function that returns the marker with this number."""


class NotPrepared(Exception):
    """The statement cannot be prepared, so Django builds it as usual."""


def shape(value: Any, values: list[Any], *, is_name: bool = False) -> Any:
    """Return what the SQL depends on, and append the values that are parameters of it. A name is none."""
    kind = type(value)
    if kind in MARKERS:
        # Django leaves out the comparison of a column that has no negative values with a negative one.
        if is_name or (kind is int and value < 0):
            return kind, value
        values.append(value)
        return kind
    shape_of_kind: Any = _shape_of_kind
    return shape_of_kind(kind)(value, values, is_name)


@cache  # a few kinds of values are looked at again and again
def _shape_of_kind(kind: Any) -> Callable[[Any, list[Any], bool], Any]:  # noqa: PLR0911 - one case for each kind
    """Return the function that returns the shape of a value of this type, which is not in MARKERS."""
    if kind in CONSTANTS or issubclass(kind, Enum | type):
        return _shape_of_constant
    if kind is slice:
        return _shape_of_slice
    if kind in COLLECTIONS:
        return _shape_of_collection
    if kind is dict:
        return _shape_of_dict
    if kind is Q:
        return _shape_of_condition
    if issubclass(kind, models.Model):
        return _shape_of_object
    if issubclass(kind, QuerySet):
        return _shape_of_queryset
    return _shape_of_subquery if issubclass(kind, Subquery) else _shape_of_expression


def _shape_of_constant(value: Any, _values: list[Any], _is_name: bool) -> Any:
    return type(value), value


def _shape_of_slice(value: Any, _values: list[Any], _is_name: bool) -> Any:
    return slice, value.start, value.stop


def _shape_of_collection(value: Any, values: list[Any], is_name: bool) -> Any:
    return type(value), *[shape(item, values, is_name=is_name) for item in value]


def _shape_of_dict(value: Any, values: list[Any], is_name: bool) -> Any:
    return dict, *[(name, shape(item, values, is_name=is_name)) for name, item in value.items()]


def _shape_of_condition(value: Any, values: list[Any], is_name: bool) -> Any:
    children = _changed_children(value, lambda child: shape(child, values, is_name=is_name))
    return Q, value.connector, value.negated, *children


def _shape_of_object(value: Any, values: list[Any], is_name: bool) -> Any:
    return shape(value.pk, values, is_name=is_name)


def _shape_of_queryset(value: Any, values: list[Any], _is_name: bool) -> Any:
    if not is_recorded(value):
        raise NotPrepared
    return type(value), value.model, *[shape_of_call(call, values) for call in value._calls]


def _shape_of_subquery(value: Any, values: list[Any], _is_name: bool) -> Any:
    if not is_recorded(value):
        raise NotPrepared
    if known := value.__dict__.get("_shape"):
        return known
    queryset, args, kwargs = value.__dict__["_recorded"]
    count = len(values)
    arguments = shape(args, values, is_name=True), shape(kwargs, values, is_name=True)
    found = type(value), shape(queryset, values), *arguments
    if len(values) == count:  # nothing of it can change, and the code may use it in many queries
        value._shape = found
    return found


def _shape_of_expression(value: Any, values: list[Any], _is_name: bool) -> Any:
    if not hasattr(value, "_constructor_args"):
        raise NotPrepared
    args, kwargs = value._constructor_args
    return type(value), shape(args, values, is_name=True), shape(kwargs, values, is_name=True)


def _changed_children(condition: Q, change: Callable[[Any], Any]) -> list[Any]:
    """Return the children of the condition after the change: of a comparison, only its value is changed."""
    return [(child[0], change(child[1])) if type(child) is tuple else change(child) for child in condition.children]


def shape_of_call(call: tuple[str, Any, Any], values: list[Any]) -> Any:
    """Return what the SQL depends on in a recorded call, and append its values."""
    name, args, kwargs = call
    is_name = name not in FILTERS
    if not args and not is_name:
        return name, *[(argument, shape(value, values)) for argument, value in kwargs.items()]
    if is_name and not kwargs and all(type(arg) is str for arg in args):
        return name, args
    return name, shape(args, values, is_name=is_name), shape(kwargs, values, is_name=is_name)


def _marked(value: Any, numbers: Iterator[int], *, is_name: bool = False) -> Any:  # noqa: PLR0911 - one case for each type
    """Return the same with a marker in place of each value that `shape` appends, in the same order."""
    kind = type(value)
    if kind in MARKERS:
        return value if is_name or (kind is int and value < 0) else MARKERS[kind](next(numbers))
    if kind in COLLECTIONS:
        items = [_marked(item, numbers, is_name=is_name) for item in value]
        return tuple(items) if kind is tuple else items
    if kind is dict:
        return {name: _marked(item, numbers, is_name=is_name) for name, item in value.items()}
    if kind is Q:
        children = _changed_children(value, lambda child: _marked(child, numbers, is_name=is_name))
        return Q.create(children, value.connector, negated=value.negated)
    if isinstance(value, models.Model):
        return _marked(value.pk, numbers, is_name=is_name)
    if isinstance(value, QuerySet):
        return replay(value, marked_calls(value._calls, numbers))  # type: ignore[attr-defined]
    if isinstance(value, Subquery) and is_recorded(value):
        queryset, args, kwargs = value.__dict__["_recorded"]
        return kind(_marked(queryset, numbers), *args, **kwargs)
    if hasattr(value, "_constructor_args"):
        args, kwargs = value._constructor_args
        return kind(*_marked(args, numbers, is_name=True), **_marked(kwargs, numbers, is_name=True))
    return value


def marked_calls(calls: Any, numbers: Iterator[int]) -> list[tuple[str, Any, Any]]:
    """Return the calls with the markers of these numbers in place of their values."""
    marked = []
    for name, args, kwargs in calls:
        is_name = name not in FILTERS
        marked.append((name, _marked(args, numbers, is_name=is_name), _marked(kwargs, numbers, is_name=is_name)))
    return marked


@dataclass(frozen=True)
class Place:
    """An expression in place of a value that an UPDATE writes. It is its own parameter."""

    number: int
    contains_aggregate = contains_over_clause = False

    def resolve_expression(self, *_args: Any, **_options: Any) -> Place:
        return self

    def as_sql(self, _compiler: Any, _connection: Any) -> tuple[str, list[Any]]:
        return "%s", [self]


def forms(marker: Any, connection: Any) -> dict[Any, Callable[[Any], Any]]:
    """Return how a marker may appear among the parameters of a statement, and the function that changes a value so."""
    if isinstance(marker, uuid.UUID):
        return {marker.hex: lambda value: value.hex, str(marker): str}
    if isinstance(marker, datetime):
        adapt = connection.ops.adapt_datetimefield_value
        return {adapt(marker): adapt}
    if isinstance(marker, bytes):
        return {marker: memoryview}
    if isinstance(marker, int):
        return {marker: lambda value: value, str(marker): str}
    return {marker: lambda value: value}
