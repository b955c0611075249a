"""Removes the validation rules that read the database or span several fields. Only the create endpoint applies them.

An upload is validated without any database query. The create endpoint applies all rules later, when it creates the row.
A dry run applies some of the removed rules to many rows at once; see `database_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest_framework import serializers
from rest_framework.relations import ManyRelatedField, RelatedField


@dataclass(frozen=True, slots=True)
class RemovedRule:
    """A rule that `skip_database_checks` removed.

    `path` is the dotted path of its field, or "" if the rule spans the whole row. `name` is the name of the class of
    the validator or the field, or of the method. `field` is the field as it was before, or None for a method and for a
    rule that spans several fields. `rule` is the validator, or None if the rule is the field itself or a method.
    """

    path: str
    name: str
    field: Any = None
    rule: Any = None


class UncheckedField(serializers.Field):  # type: ignore[type-arg] # generic in the stubs only
    """Replaces a related field. It accepts every value, because the create endpoint looks the object up."""

    def to_internal_value(self, data: Any) -> Any:
        return data


def skip_database_checks(serializer: Any, path: str = "") -> list[RemovedRule]:
    """Remove, in place, every rule of a serializer that reads the database or spans several fields. Return the rules.

    Related fields become `UncheckedField`, which still reports a value that is missing or null. Unique validators,
    serializer-level validators and `validate()` are removed. The same is done in nested serializers, whose fields
    have the prefix `path`.
    """
    if isinstance(serializer, serializers.ListSerializer):
        return skip_database_checks(serializer.child, path)
    removed = [RemovedRule(path, type(validator).__name__, rule=validator) for validator in serializer.validators]
    if getattr(type(serializer), "validate", None) is not serializers.Serializer.validate:
        removed.append(RemovedRule(path, "validate"))
    serializer.validators = []
    serializer.validate = return_unchanged
    for name, field in list(serializer.fields.items()):
        if field.read_only:
            continue
        field_path = f"{path}.{name}" if path else name
        if isinstance(field, RelatedField | ManyRelatedField):
            removed.append(RemovedRule(field_path, type(field).__name__, field))
            if hasattr(serializer, f"validate_{name}"):
                removed.append(RemovedRule(field_path, f"validate_{name}"))
            serializer.fields[name] = UncheckedField(required=field.required, allow_null=field.allow_null)
            setattr(serializer, f"validate_{name}", return_unchanged)
            continue
        if isinstance(field, serializers.BaseSerializer):
            removed += skip_database_checks(field, field_path)
        readers = [validator for validator in field.validators if hasattr(validator, "queryset")]
        removed += [RemovedRule(field_path, type(validator).__name__, field, validator) for validator in readers]
        field.validators = [validator for validator in field.validators if validator not in readers]
    return removed


def return_unchanged(value: Any) -> Any:
    """Replaces a `validate` or `validate_<field>` method that only the create endpoint can run."""
    return value
