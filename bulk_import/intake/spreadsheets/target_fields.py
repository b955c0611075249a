"""The fields of a target, and all names under which a column can be meant for one of them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from django.conf import global_settings, settings
from django.utils.translation import get_language, override
from rest_framework import serializers
from rest_framework.relations import RelatedField

from bulk_import.reports.failures import own_headings
from bulk_import.target_views import ViewFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target


class Kind(Enum):
    """What the values of a field are. It decides how a cell is read."""

    TEXT, NUMBER, INTEGER, BOOLEAN, DATE, OTHER = range(6)


KINDS: list[tuple[tuple[type, ...], Kind]] = [
    ((serializers.BooleanField,), Kind.BOOLEAN),
    ((serializers.IntegerField,), Kind.INTEGER),
    ((serializers.DecimalField, serializers.FloatField), Kind.NUMBER),
    ((serializers.DateField, serializers.DateTimeField), Kind.DATE),
    ((serializers.MultipleChoiceField,), Kind.OTHER),
    ((serializers.CharField, serializers.ChoiceField, RelatedField), Kind.TEXT),
]

ACCENTS = re.compile("[\u0300-\u036f]")

MATCHES = ("chosen", "exact", "name", "label", "alias")
"""How a column can be recognised, the most certain way first. `chosen` is a choice of the upload."""


@dataclass(frozen=True, slots=True)
class TargetField:
    """A field that an upload can set."""

    name: str  # as the view writes it
    kind: Kind = Kind.OTHER
    required: bool = False


@dataclass(frozen=True, slots=True)
class TargetFields:
    """The fields of a target by name, and the fields that each name may mean, for every way in MATCHES."""

    fields: dict[str, TargetField] = field(default_factory=dict)
    meanings: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    download_headings: list[list[str]] = field(default_factory=list)
    """The columns that a download of failed rows adds, in each language."""

    def find(self, column: str) -> tuple[str, str] | None:
        """Return the field that a column with this name is meant for, and how it is recognised; None if unknown."""
        if column in self.fields:
            return column, "exact"
        key = normalise(column)
        for match, meanings in self.meanings.items():
            found = meanings.get(key, ())
            if len(found) == 1:
                return next(iter(found)), match
        return None


def target_fields(target: Target, request: Request, *, is_update: bool = False) -> TargetFields:
    """Return the fields that an upload to this target can set. An update needs only the one that finds its object."""
    serializer: Any = target.create_serializer(request)
    view_format = ViewFormat(serializer.context["view"])
    fields: dict[str, TargetField] = {}
    meanings: dict[str, dict[str, set[str]]] = {"name": {}, "label": {}, "alias": {}}
    written: dict[str, str] = {}
    for name, found in serializer.fields.items():
        if found.read_only or isinstance(found, serializers.HiddenField):
            continue
        written[name] = key = view_format.field_name(name)
        required = name == target.lookup if is_update else found.required
        fields[key] = TargetField(key, kind_of(found), required)
        for spelling in (name, key):
            meanings["name"].setdefault(normalise(spelling), set()).add(key)
        for alias in target.aliases.get(name, ()):
            meanings["alias"].setdefault(normalise(alias), set()).add(key)
    download_headings = []
    for language in label_languages():
        with override(language):
            download_headings.append(own_headings(fields))
            for name, label in labels(target.serializer_class(context=serializer.context)):
                if name in written:
                    meanings["label"].setdefault(normalise(label), set()).add(written[name])
    return TargetFields(fields, meanings, download_headings)


def labels(serializer: Any) -> Iterator[tuple[str, str]]:
    """Yield the labels of the fields in the active language, and the names that the model has for them."""
    model = getattr(getattr(serializer, "Meta", None), "model", None)
    verbose_names = {column.name: column.verbose_name for column in model._meta.fields} if model else {}
    for name, found in serializer.fields.items():
        yield name, str(found.label or name)
        if found.source in verbose_names:
            yield name, str(verbose_names[found.source])


def label_languages() -> list[str]:
    """Return the languages of the site. Without LANGUAGES, Django lists all that it knows: then only those in use."""
    if settings.LANGUAGES != global_settings.LANGUAGES:
        return [language for language, _name in settings.LANGUAGES]
    return list(dict.fromkeys([settings.LANGUAGE_CODE, get_language() or settings.LANGUAGE_CODE, "en"]))


def kind_of(serializer_field: Any) -> Kind:
    return next((kind for types, kind in KINDS if isinstance(serializer_field, types)), Kind.OTHER)


def normalise(name: str) -> str:
    """Return a name without case, accents, blanks and punctuation: "Código-SKU" becomes "codigosku"."""
    letters = ACCENTS.sub("", unicodedata.normalize("NFKD", name.casefold()))
    return "".join(letter for letter in unicodedata.normalize("NFC", letters) if letter.isalnum())
