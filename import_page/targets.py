"""What the page has to know about a target. It comes from the same settings as the import itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import Http404
from django.urls import reverse
from django.utils.module_loading import import_string
from rest_framework.serializers import HiddenField

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
"""Size limit of an upload if the settings have no MAX_BODY_BYTES. It is the default of `bulk_import`."""


@dataclass(frozen=True, slots=True)
class PageTarget:
    """A target of `BULK_IMPORT["TARGETS"]`, as the page shows it."""

    name: str
    api_url: str
    objects: str  # what its rows describe, in the user's language, such as "products"
    lookup: str  # the field that identifies an object, or ""
    can_rehearse: bool
    can_update: bool
    max_bytes: int
    fields: list[dict[str, Any]]  # name, label and required of each field that a row may have


def page_target(name: str) -> PageTarget:
    """Return the target with this name. Raises Http404 if the settings have no such target."""
    configured: Any = settings.BULK_IMPORT
    target = configured["TARGETS"].get(name)
    if target is None:
        raise Http404(f"There is no import target {name!r}.")
    serializer_class = import_string(target["serializer"])
    model = getattr(getattr(serializer_class, "Meta", None), "model", None)
    can_update = bool(target.get("detail_url") and target.get("lookup"))
    return PageTarget(
        name=name,
        api_url=reverse("bulk-import-jobs", kwargs={"target": name}).rstrip("/"),
        objects=str(model._meta.verbose_name_plural) if model else name,
        lookup=target.get("lookup", "") if can_update else "",
        can_rehearse=bool(target.get("rehearse")),
        can_update=can_update,
        max_bytes=configured.get("MAX_BODY_BYTES", DEFAULT_MAX_BYTES),
        fields=[
            {"name": field_name, "label": str(field.label or field_name), "required": field.required}
            for field_name, field in serializer_class().fields.items()
            if not field.read_only and not isinstance(field, HiddenField)
        ],
    )
