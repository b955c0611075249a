"""Generates a row for a probe or a template from the target's serializer: a value for each field that it must have."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer

from bulk_import.target_views import ViewFormat

if TYPE_CHECKING:
    from bulk_import.conf import Target

MAX_TEXT_CHARACTERS = 12


def sample_row(target: Target, request: Any) -> str:
    """Return a row as JSON text, with the names of the fields as a client of the view sends them.

    The view may refuse it, for example because a field has rules of its own. Raises whatever the serializer raises.
    """
    serializer = target.create_serializer(request)
    row = sample_object(serializer)
    form = ViewFormat(serializer.context["view"])
    return json.dumps({form.field_name(name): value for name, value in row.items()}, ensure_ascii=False)


def sample_object(serializer: Any, text: str = "") -> dict[str, Any]:
    """Return a value for each required field. Texts consist of `text`, or of another random text in each call."""
    fields = serializer.fields.items()
    row = {name: _sample(field, text) for name, field in fields if field.required and not field.read_only}
    values: dict[str, Any] = json.loads(JSONRenderer().render(row))
    return values


def _sample(field: Any, text: str = "") -> Any:  # noqa: C901, PLR0911, PLR0912 - one line for each kind of field
    """Return a value for a field. Random where it may have to be unique."""
    now, random = timezone.now(), secrets.randbelow(10**6)
    if isinstance(field, serializers.ChoiceField):
        choice = next((key for key in field.choices if key != ""), "")
        return [choice] if isinstance(field, serializers.MultipleChoiceField) else choice
    if isinstance(field, serializers.ManyRelatedField):
        return [] if field.allow_empty else [_sample(field.child_relation, text)]
    if isinstance(field, serializers.RelatedField):
        queryset: Any = field.get_queryset()
        first = queryset.first()
        return None if first is None else field.to_representation(first)
    if isinstance(field, serializers.ListSerializer | serializers.ListField):
        return [] if field.allow_empty and not getattr(field, "min_length", 0) else [_sample(field.child, text)]
    if isinstance(field, serializers.BaseSerializer):
        return sample_object(field, text)
    if isinstance(field, serializers.DictField | serializers.JSONField):
        return {}
    if isinstance(field, serializers.BooleanField):
        return False
    if isinstance(field, serializers.DecimalField | serializers.FloatField | serializers.IntegerField):
        return _number(field)
    if isinstance(field, serializers.DateTimeField):
        return now
    if isinstance(field, serializers.DateField):
        return now.date()
    if isinstance(field, serializers.TimeField):
        return now.time().replace(microsecond=0)
    if isinstance(field, serializers.DurationField):
        return "00:00:01"
    if isinstance(field, serializers.UUIDField):
        return f"00000000-0000-4000-8000-{random:012d}"
    if isinstance(field, serializers.EmailField):
        return f"probe-{random}@example.com"
    if isinstance(field, serializers.URLField):
        return f"https://example.com/{random}"
    if isinstance(field, serializers.IPAddressField):
        return "192.0.2.1"
    return _text(field, text[: getattr(field, "max_length", None)] or f"probe-{random}")


def _number(field: Any) -> Any:
    least = getattr(field, "min_value", None)
    most = getattr(field, "max_value", None)
    number = 1 if least is None or least <= 1 else least
    number = most if most is not None and most < number else number
    return str(number) if isinstance(field, serializers.DecimalField) else number


def _text(field: Any, text: str) -> str:
    least = getattr(field, "min_length", None) or 0
    most = getattr(field, "max_length", None) or max(MAX_TEXT_CHARACTERS, least)
    return text.ljust(least, "0")[-most:]
