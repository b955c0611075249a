"""The lines that a site needs for a target: settings, URLs and an environment file. What is there is left out."""

from __future__ import annotations

import importlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections
from django.urls import NoReverseMatch, reverse

from bulk_import.checks import MIDDLEWARE, SMTP_BACKEND
from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE
from bulk_import.models import database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import.management.found_endpoint import FoundEndpoint

LOCAL_AWS_URL = "http://127.0.0.1:4566"
"""Address of the S3 and SQS that `manage.py bulk_import_local` starts."""

QUEUE = "bulk-import"

CONNECTIONS = {
    "QUEUE_URL": 'os.environ["BULK_IMPORT_QUEUE_URL"]',
    "WORKER_SECRETS": '[os.environ["BULK_IMPORT_WORKER_SECRET"]]',
    "TOKEN_KEYS": '[os.environ["BULK_IMPORT_TOKEN_KEY"]]',
    "PUBLIC_URL": 'os.environ["BULK_IMPORT_PUBLIC_URL"]',
}
"""The settings in BULK_IMPORT that every site needs, with their values as Python code."""

BUCKETS = {PAYLOADS_STORAGE: "BULK_IMPORT_PAYLOADS_BUCKET", FAILURES_STORAGE: "BULK_IMPORT_FAILURES_BUCKET"}


def settings_text(found: FoundEndpoint) -> str:
    """Return the lines for the end of the settings module."""
    text = "".join(_settings_lines(found))
    return f"import os\n\n{text}" if "os.environ" in text else text


def _settings_lines(found: FoundEndpoint) -> Iterator[str]:
    middleware = list(settings.MIDDLEWARE)
    if MIDDLEWARE in middleware[:-1]:
        yield f'MIDDLEWARE = [name for name in MIDDLEWARE if name != "{MIDDLEWARE}"]\n'
    if middleware[-1:] != [MIDDLEWARE]:
        others = "*MIDDLEWARE, " if _is_in_module("MIDDLEWARE") else "".join(f'"{name}", ' for name in middleware)
        yield f'MIDDLEWARE = [{others}"{MIDDLEWARE}"]  # must be the last one\n\n'
    yield from _bulk_import_lines(found)
    missing = [alias for alias in BUCKETS if alias not in settings.STORAGES]
    if missing:
        yield "\nSTORAGES = {\n"
        existing = (
            f'    "{alias}": {json.loads(json.dumps(storage, default=str))!r},\n'  # a path becomes text
            for alias, storage in settings.STORAGES.items()
        )
        yield "    **STORAGES,\n" if _is_in_module("STORAGES") else "".join(existing)
        for alias in missing:
            yield f'    "{alias}": {{\n        "BACKEND": "storages.backends.s3.S3Storage",\n'
            yield f'        "OPTIONS": {{"bucket_name": os.environ["{BUCKETS[alias]}"]}},\n    }},\n'
        yield "}\n"
    if not _is_in_module("MAILERS") and settings.EMAIL_BACKEND == SMTP_BACKEND and not settings.EMAIL_TIMEOUT:
        yield "\nEMAIL_TIMEOUT = 10  # seconds\n"
    alias = database()
    if connections[alias].vendor == "sqlite":
        options: Any = settings.DATABASES[alias].get("OPTIONS") or {}
        if options.get("transaction_mode") != "IMMEDIATE":
            yield f'\nDATABASES["{alias}"].setdefault("OPTIONS", {{}})["transaction_mode"] = "IMMEDIATE"\n'


def _bulk_import_lines(found: FoundEndpoint) -> Iterator[str]:
    existing: Any = getattr(settings, "BULK_IMPORT", None)
    if not existing:
        yield 'BULK_IMPORT = {\n    "TARGETS": {\n'
        yield f'        "{found.target}": {{\n' + _target_lines(found, " " * 12) + "        },\n    },\n"
        yield "".join(f'    "{name}": {value},\n' for name, value in CONNECTIONS.items()) + "}\n"
        return
    if found.target not in existing.get("TARGETS", {}):
        if "TARGETS" not in existing:
            yield 'BULK_IMPORT["TARGETS"] = {}\n'
        yield f'BULK_IMPORT["TARGETS"]["{found.target}"] = {{\n{_target_lines(found, " " * 4)}}}\n'
    yield "".join(f'BULK_IMPORT["{name}"] = {value}\n' for name, value in CONNECTIONS.items() if name not in existing)


def _target_lines(found: FoundEndpoint, indent: str) -> str:
    lines = [
        f'"create_url": "{found.create_url}",  # the URL name of the endpoint that creates one object',
        f'"serializer": "{found.serializer}",  # the serializer of this endpoint',
    ]
    if found.create_kwargs:
        lines.append(f'"create_kwargs": {json.dumps(found.create_kwargs)},')
    lines.append('"rehearse": True,  # users and the doctor may try rows; False if the view itself sends emails')
    if found.detail_url:
        lines.append(f'# "detail_url": "{found.detail_url}",  # lets users undo imports')
    if found.detail_url and found.lookup:
        lines.append(f'# "lookup": "{found.lookup}",  # with detail_url, lets imports change objects')
    return "".join(f"{indent}{line}\n" for line in lines)


def _is_in_module(name: str) -> bool:
    """Return whether the settings module defines this setting, so that a line at its end can refer to it.

    It does not define Django's defaults, nor what another program adds. A line that referred to those would fail, and
    one that left them out would remove them, so such a line repeats their values.
    """
    try:
        module = importlib.import_module(settings.SETTINGS_MODULE) if settings.SETTINGS_MODULE else None
    except ImportError:  # with Dynaconf, this is the path of a file
        module = None
    return hasattr(module, name)


def urls_text(found: FoundEndpoint) -> str:
    """Return the lines for the end of the URL configuration; "" if it has all of them."""
    target = f'{{"target": "{found.target}"}}'
    lines = []
    if not _has_url("bulk-import-jobs", {"target": found.target}):
        lines.append(f'path("{found.bulk_path}", include("bulk_import.urls"), {target}),')
    if not _has_url("bulk-import-probe", {}):
        lines.append('path("bulk-import/worker/", include("bulk_import.worker_urls")),')
    if not lines:
        return ""
    inner = "".join(f"    {line}\n" for line in lines)
    return f"from django.urls import include, path\n\nurlpatterns = [\n{inner}    *urlpatterns,  # after these\n]\n"


def _has_url(name: str, kwargs: dict[str, str]) -> bool:
    try:
        reverse(name, kwargs=kwargs)
    except NoReverseMatch:
        return False
    return True


def environment_text(base_url: str) -> str:
    """Return the environment of the site and the worker on a developer's machine; "" if it has all variables."""
    variables = {
        "AWS_ENDPOINT_URL": LOCAL_AWS_URL,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "BULK_IMPORT_QUEUE_URL": f"{LOCAL_AWS_URL}/123456789012/{QUEUE}",
        "BULK_IMPORT_PAYLOADS_BUCKET": f"{QUEUE}-payloads",
        "BULK_IMPORT_FAILURES_BUCKET": f"{QUEUE}-failures",
        "BULK_IMPORT_WORKER_SECRET": secrets.token_urlsafe(32),
        "BULK_IMPORT_TOKEN_KEY": secrets.token_urlsafe(32),
        "BULK_IMPORT_BASE_URL": base_url,
        "BULK_IMPORT_PUBLIC_URL": base_url,
    }
    notes = {
        "AWS_ENDPOINT_URL": "of manage.py bulk_import_local; on AWS, remove this line and the next three",
        "BULK_IMPORT_BASE_URL": "where the worker reaches the site",
        "BULK_IMPORT_PUBLIC_URL": "where users reach the site, for the links in emails",
    }
    lines = [
        f"export {name}={value}" + (f"   # {notes[name]}" if name in notes else "") + "\n"
        for name, value in variables.items()
        if not os.environ.get(name)
    ]
    return "".join(lines)
