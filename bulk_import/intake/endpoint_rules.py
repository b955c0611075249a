"""What of a target's serializer is left to the create endpoint: all that reads the database or spans several fields."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.relations import ManyRelatedField, RelatedField


class LeftToEndpoint(serializers.Field):  # type: ignore[type-arg] # generic in the stubs only
    """Stands in for a related field: any value is accepted, the create endpoint looks it up."""

    def to_internal_value(self, data: Any) -> Any:
        return data


def leave_database_to_endpoint(serializer: Any) -> None:
    """Strip a serializer, in place, of every rule that reads the database or spans several fields."""
    if isinstance(serializer, serializers.ListSerializer):
        leave_database_to_endpoint(serializer.child)
        return
    serializer.validators = []
    serializer.validate = accept
    for name, field_ in list(serializer.fields.items()):
        if field_.read_only:
            continue
        if isinstance(field_, RelatedField | ManyRelatedField):
            serializer.fields[name] = LeftToEndpoint(required=field_.required, allow_null=field_.allow_null)
            setattr(serializer, f"validate_{name}", accept)
            continue
        if isinstance(field_, serializers.BaseSerializer):
            leave_database_to_endpoint(field_)
        field_.validators = [check for check in field_.validators if not hasattr(check, "queryset")]


def accept(value: Any) -> Any:
    """Stands in for a rule that is left to the endpoint."""
    return value
