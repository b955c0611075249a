"""Removes the validation rules that read the database or span several fields. Only the create endpoint applies them.

An upload is validated without any database query. The create endpoint applies all rules later, when it creates the row.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.relations import ManyRelatedField, RelatedField


class UncheckedField(serializers.Field):  # type: ignore[type-arg] # generic in the stubs only
    """Replaces a related field. It accepts every value, because the create endpoint looks the object up."""

    def to_internal_value(self, data: Any) -> Any:
        return data


def skip_database_checks(serializer: Any) -> None:
    """Remove, in place, every rule of a serializer that reads the database or spans several fields.

    Related fields become `UncheckedField`, which still reports a value that is missing or null. Unique validators,
    serializer-level validators and `validate()` are removed. The same is done in nested serializers.
    """
    if isinstance(serializer, serializers.ListSerializer):
        skip_database_checks(serializer.child)
        return
    serializer.validators = []
    serializer.validate = return_unchanged
    for name, field in list(serializer.fields.items()):
        if field.read_only:
            continue
        if isinstance(field, RelatedField | ManyRelatedField):
            serializer.fields[name] = UncheckedField(required=field.required, allow_null=field.allow_null)
            setattr(serializer, f"validate_{name}", return_unchanged)
            continue
        if isinstance(field, serializers.BaseSerializer):
            skip_database_checks(field)
        field.validators = [validator for validator in field.validators if not hasattr(validator, "queryset")]


def return_unchanged(value: Any) -> Any:
    """Replaces a `validate` or `validate_<field>` method that only the create endpoint can run."""
    return value
