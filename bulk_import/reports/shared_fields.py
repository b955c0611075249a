"""Makes serializers with many fields faster: DRF makes and binds the fields of a serializer whenever it is used."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from django.utils.functional import cached_property


class SharedFields:
    """Base of a serializer that only renders. All its instances share the fields, because rendering changes none.

    The fields are bound to an instance of their own, so a method of a SerializerMethodField must not use `self`. Only
    a nested serializer with `uses_context` is made anew for each instance, and so has its context.
    """

    uses_context = False

    @cached_property
    def fields(self) -> Any:
        """The fields by name, as in DRF."""
        own_class: Any = type(self)
        fields = dict(_bound_fields(own_class))
        for name, field in fields.items():
            if getattr(field, "uses_context", False):
                fields[name] = deepcopy(field)
                fields[name].bind(name, self)
        return fields


@cache
def _bound_fields(serializer_class: Any) -> dict[str, Any]:
    serializer = serializer_class()
    fields: dict[str, Any] = serializer.get_fields()
    for name, field in fields.items():
        field.bind(name, serializer)
    return fields
