"""Querysets that record the calls that define them, such as `filter`, and build a query only if something asks for it.

`prepared_queries` executes most of them without building a query at all.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.db import models
from django.db.models import QuerySet, sql
from django.db.models.expressions import Exists, Subquery
from django.db.models.query import MAX_GET_RESULTS

RECORDED = (
    *("filter", "exclude", "annotate", "alias", "order_by", "distinct", "reverse", "values", "values_list", "using"),
    *("select_related", "select_for_update", "defer", "only"),
)
"""The calls that define a queryset."""

STATE = set(vars(QuerySet(models.Model, query=sql.Query(None))))
"""The attributes of a queryset."""

KEPT = {"_known_related_objects", "_hints", "_sticky_filter"}
"""The attributes that the managers of related objects set. They have no effect on the SQL."""

originals: dict[str, Any] = {}
"""Django's methods of querysets, by name."""


def is_recorded(value: Any) -> bool:
    """Return whether this is a queryset that has only recorded its calls, or a subquery of such a queryset."""
    if isinstance(value, Subquery):
        return "_recorded" in value.__dict__
    return isinstance(value, QuerySet) and "_calls" in value.__dict__


def recorded(self: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Return a queryset that records one more call."""
    found = object.__new__(type(self))
    state = self.__dict__
    found.__dict__ = {**state, "_calls": (*state["_calls"], (name, args, kwargs)), "_result_cache": None}
    if "_defer_next_filter" in state:
        del found._defer_next_filter
    return found


def replay(queryset: Any, calls: Any) -> Any:
    """Return the queryset that Django builds with these calls, which are like those that a queryset has recorded."""
    built = object.__new__(type(queryset))
    using, hints = queryset.__dict__["_origin"]
    originals["__init__"](built, queryset.model, sql.Query(queryset.model), using, hints)
    for name, args, kwargs in calls:
        build = BUILDERS.get(name) or originals[name]
        built = build(built, *args, **kwargs)
    return built


def install() -> None:
    """Let querysets and subqueries record. There is no way back."""
    queryset: Any = QuerySet
    originals.update({name: getattr(queryset, name) for name in (*RECORDED, "__init__", "__getitem__", "all")})
    for name in RECORDED:
        setattr(queryset, name, _recording(name))
    for name, function in (("__init__", _init), ("__getitem__", _getitem), ("all", _all)):
        setattr(queryset, name, function)
    queryset.__getattr__ = _getattr
    subquery: Any = Subquery
    exists: Any = Exists
    for replaced in (subquery, exists):
        replaced.__init__ = _init_of_subquery(replaced.__init__)
    subquery.__getattr__ = _getattr_of_subquery


def _init(self: Any, model: Any = None, query: Any = None, using: Any = None, hints: Any = None) -> None:
    if query is not None or model is None:
        originals["__init__"](self, model, query, using, hints)
        return
    self.__dict__ = {
        "model": model,
        "_calls": (),
        "_result_cache": None,
        "_db": using,
        "_for_write": False,
        "_hints": hints or {},
        "_known_related_objects": {},
        "_origin": (using, hints),
    }


def _recording(name: str) -> Any:
    original = originals[name]

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "_calls" in self.__dict__ and "_sticky_filter" not in self.__dict__:
            return recorded(self, name, args, kwargs)
        return original(self, *args, **kwargs)

    return method


def _getattr(self: Any, name: str) -> Any:
    """Build the query of a queryset that has only recorded its calls, because something asks for its state."""
    if name not in STATE or "_calls" not in self.__dict__:
        raise AttributeError(name)
    built = replay(self, self._calls)
    kept = {name: value for name, value in self.__dict__.items() if name in KEPT}
    self.__dict__ = {**built.__dict__, **kept, "_result_cache": self._result_cache}
    return self.__dict__[name]


def _init_of_subquery(original: Any) -> Any:
    def init(self: Any, queryset: Any, *args: Any, **kwargs: Any) -> None:
        if is_recorded(queryset):
            self._recorded = queryset, args, kwargs
        else:
            original(self, queryset, *args, **kwargs)

    return init


def _getattr_of_subquery(self: Any, name: str) -> Any:
    """Build a subquery that has only recorded its queryset, because something asks for its state."""
    if name not in {"query", "extra"} or "_recorded" not in self.__dict__:
        raise AttributeError(name)
    queryset, args, kwargs = self._recorded
    type(self).__init__(self, queryset.all().query, *args, **kwargs)
    return self.__dict__[name]


def _getitem(self: Any, place: Any) -> Any:
    if "_calls" in self.__dict__ and self._result_cache is None and isinstance(place, slice) and place.step is None:
        return recorded(self, "__getitem__", (place,), {})
    return originals["__getitem__"](self, place)


def _all(self: Any) -> Any:
    return recorded(self, "all", (), {}) if "_calls" in self.__dict__ else originals["all"](self)


def _first_row(queryset: Any) -> Any:
    return (queryset if queryset.ordered else queryset.order_by("pk"))[:1]


def _only_row(queryset: Any, *args: Any, **kwargs: Any) -> Any:
    return queryset.filter(*args, **kwargs).order_by()[:MAX_GET_RESULTS]


BUILDERS: dict[str, Any] = {"first": _first_row, "get": _only_row}
"""The functions that define the queryset of a call that is executed at once."""
