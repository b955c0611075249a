"""System checks of the site around this app: settings that belong to Django, DRF or other apps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from collections.abc import Iterator

REVISION_MIDDLEWARE = "reversion.middleware.RevisionMiddleware"


def check_site() -> Iterator[CheckMessage]:
    """Yield everything in the site's other settings with which imports cannot work."""
    yield from _check_outer_transactions()


def _check_outer_transactions() -> Iterator[CheckMessage]:
    """Look for the middleware that is known to open a transaction. The doctor also finds others, by a request."""
    others = [name for name in settings.MIDDLEWARE if not name.startswith("bulk_import.")]
    for name in others:
        try:
            middleware = import_string(name)
        except ImportError:  # Django reports this when the site starts
            continue
        names = {f"{base.__module__}.{base.__qualname__}" for base in getattr(middleware, "__mro__", ())}
        if REVISION_MIDDLEWARE in names and getattr(middleware, "atomic", True):
            yield Error(
                f"{name} in MIDDLEWARE opens a transaction around each request, so that imports cannot commit rows.",
                hint="Remove it, and use reversion.views.RevisionMixin in your views instead.",
                id="bulk_import.E021",
            )
