"""System checks of the site around this app: settings that belong to Django, DRF or other apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.utils.module_loading import import_string
from storages.backends.s3 import S3Storage

from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE, conf

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL_CACHE = "django.core.cache.backends.locmem.LocMemCache"
REVISION_MIDDLEWARE = "reversion.middleware.RevisionMiddleware"


def check_site() -> Iterator[CheckMessage]:
    """Yield a message for each setting outside BULK_IMPORT with which imports do not work properly."""
    yield from _check_outer_transactions()
    yield from _check_storages()
    yield from _check_cache()
    yield from _check_time_zone()
    yield from _check_tenants()


def _check_outer_transactions() -> Iterator[CheckMessage]:
    """Look for django-reversion's middleware, which opens a transaction around each request.

    Other middleware may do the same. The doctor finds it, because it sends a request.
    """
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
                id="bulk_import.E023",
            )


def _check_storages() -> Iterator[CheckMessage]:
    """Check that both storages are S3 storages.

    `bulk_import.storage.buckets` sets timeouts on the storage's S3 client, which other storages do not have.
    """
    for alias in {PAYLOADS_STORAGE, FAILURES_STORAGE} & settings.STORAGES.keys():
        storage: Any = settings.STORAGES[alias]
        try:
            is_s3 = issubclass(import_string(storage.get("BACKEND", "")), S3Storage)
        except (ImportError, TypeError):
            is_s3 = False
        if not is_s3:
            yield Error(
                f"The storage {alias!r} in STORAGES is not an S3 storage, so its requests have no timeouts.",
                hint='Use "storages.backends.s3.S3Storage" of django-storages, or a subclass of it.',
                id="bulk_import.E024",
            )


def _check_cache() -> Iterator[CheckMessage]:
    if settings.DEBUG or not conf().submission_rate:
        return
    if settings.CACHES["default"]["BACKEND"] == LOCAL_CACHE:
        yield Warning(
            "SUBMISSION_RATE is counted in the default cache. LocMemCache belongs to one process, so that a user may "
            "send that many requests to each process.",
            hint="Use a cache that all processes share: DatabaseCache or RedisCache.",
            id="bulk_import.W011",
        )


def _check_time_zone() -> Iterator[CheckMessage]:
    """Check that times in the database mean the same to Python and to the database.

    Without USE_TZ, Django writes local times, while SQLite's clock is in UTC, and an hour occurs twice when the
    clocks go back. Leases and deadlines would end hours too early or too late.
    """
    if not settings.USE_TZ and settings.TIME_ZONE != "UTC":
        yield Error(
            f"USE_TZ is False and TIME_ZONE is {settings.TIME_ZONE!r}, so that times in the database are ambiguous. "
            "Imports would start or expire hours too early or too late.",
            hint='Set USE_TZ = True, or TIME_ZONE = "UTC".',
            id="bulk_import.E033",
        )


def _check_tenants() -> Iterator[CheckMessage]:
    """Check that the tenants of django-tenants share the tables of this app and of the users.

    The worker API has one host, so it sees the tables of one schema. And if each tenant had a table of users of its
    own, a user would see the imports of the users of other tenants with the same ID.
    """
    if not hasattr(settings, "TENANT_APPS"):
        return
    shared, of_tenants = set(_app_names("SHARED_APPS")), set(_app_names("TENANT_APPS"))
    for name in ("bulk_import", apps.get_app_config(get_user_model()._meta.app_label).name):
        if name not in shared or name in of_tenants:
            yield Error(
                f"The tables of {name} are not, or not only, in the shared schema of all tenants.",
                hint=f"List {name!r} in SHARED_APPS, and not in TENANT_APPS.",
                id="bulk_import.E034",
            )


def _app_names(setting: str) -> Iterator[str]:
    """Yield the names of the apps in a setting, which may also list them by the path of their AppConfig."""
    for entry in getattr(settings, setting, ()):
        yield next((config.name for config in apps.get_app_configs() if _is_entry_of(entry, config)), entry)


def _is_entry_of(entry: str, config: Any) -> bool:
    return entry in {config.name, f"{type(config).__module__}.{type(config).__qualname__}"}
