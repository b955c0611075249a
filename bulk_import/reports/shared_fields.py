"""Makes serializers with many fields faster: DRF makes and binds the fields of a serializer whenever it is used."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from django.utils.functional import cached_property
from rest_framework.serializers import BaseSerializer


class SharedFields:
    """Base of a serializer that only renders. All its instances share the fields, because rendering changes none.

    The fields are bound to an instance of their own, so a method of a SerializerMethodField must not use `self`. A
    nested serializer may need the context of the request, so each instance has its own.
    """

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields by name, as in DRF."""
        shared: dict[str, Any] = _bound_fields(type(self))
        fields = dict(shared)
        for name, field in shared.items():
            if isinstance(field, BaseSerializer):
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
