"""Misconfiguration found by `manage.py check`, each with what to do about it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import NoReverseMatch, Resolver404, reverse
from rest_framework.serializers import Serializer

from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE, Target, conf
from bulk_import.models import database
from bulk_import.outbox.mail import HTML_TEMPLATE, TEXT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterator

MIDDLEWARE = "bulk_import.middleware.ImportedRowMiddleware"
OLD_MIDDLEWARE = "bulk_import.ledger.ImportedRowMiddleware"
SHORTEST_SECRET_CHARACTERS = 32
HOW_TO_MAKE_ONE = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
SMTP_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of all of them
WEBHOOK_SECRET_BYTES = (24, 64)
"""The least and the most, by the Standard Webhooks specification."""


@register(Tags.compatibility)
def check_configuration(**_options: Any) -> list[CheckMessage]:
    try:
        conf()
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(str(error), hint="See bulk_import.conf for the names.", id="bulk_import.E001")]
    return [*_check_settings(), *_check_targets(), *_check_database(), *_check_mail(), *_check_webhook()]


def _check_settings() -> Iterator[CheckMessage]:
    if not conf().queue_url:
        yield Error("BULK_IMPORT has no QUEUE_URL.", hint="Set the SQS queue's URL.", id="bulk_import.E002")
    if not conf().worker_secrets or any(len(secret) < SHORTEST_SECRET_CHARACTERS for secret in conf().worker_secrets):
        yield Error(
            f"BULK_IMPORT needs WORKER_SECRETS of {SHORTEST_SECRET_CHARACTERS} characters or more.",
            hint=HOW_TO_MAKE_ONE,
            id="bulk_import.E003",
        )
    if any(len(secret) < SHORTEST_SECRET_CHARACTERS for secret in conf().metrics_secrets):
        yield Error(
            f"BULK_IMPORT needs METRICS_SECRETS of {SHORTEST_SECRET_CHARACTERS} characters or more, or none.",
            hint=HOW_TO_MAKE_ONE,
            id="bulk_import.E016",
        )
    for alias in (PAYLOADS_STORAGE, FAILURES_STORAGE):
        if alias not in settings.STORAGES:
            yield Error(
                f"STORAGES has no {alias!r}.",
                hint="Add an S3 storage of django-storages under this alias.",
                id="bulk_import.E004",
            )
    if settings.MIDDLEWARE and settings.MIDDLEWARE[-1] == OLD_MIDDLEWARE:
        yield Warning(
            f"MIDDLEWARE lists {OLD_MIDDLEWARE!r}, the path of the previous release. The next release removes it.",
            hint=f"Replace that line with {MIDDLEWARE!r}.",
            id="bulk_import.W006",
        )
    elif not settings.MIDDLEWARE or settings.MIDDLEWARE[-1] != MIDDLEWARE:
        yield Error(
            "ImportedRowMiddleware is not the last in MIDDLEWARE; without it no row can be created.",
            hint=f"Put {MIDDLEWARE!r} at the end.",
            id="bulk_import.E005",
        )
    try:
        reverse("bulk-import-claim", kwargs={"chunk_id": "00000000-0000-0000-0000-000000000000"})
    except NoReverseMatch:
        yield Error(
            "The worker API has no URL.",
            hint='Add path("bulk-import/worker/", include("bulk_import.worker_urls")).',
            id="bulk_import.E006",
        )


def _check_targets() -> Iterator[CheckMessage]:
    for name in conf().targets:
        try:
            target = conf().target(name)
        except TypeError:
            yield Error(
                f"The target {name!r} must have create_url and serializer, and nothing else.",
                hint='Write {"create_url": "<URL name>", "serializer": "<dotted path>"}.',
                id="bulk_import.E007",
            )
            continue
        yield from _check_target(target)


def _check_target(target: Target) -> Iterator[CheckMessage]:
    try:
        target.create_view()
    except (NoReverseMatch, Resolver404, AttributeError):
        yield Error(
            f"The create_url {target.create_url!r} of target {target.name!r} is not the URL of a DRF view.",
            hint="Give the URL name of the endpoint that creates one row by POST.",
            id="bulk_import.E008",
        )
    try:
        serializer_class = target.serializer_class
    except ImportError as error:
        yield Error(
            f"The serializer of target {target.name!r}: {error}",
            hint="Give the dotted path of the serializer that the endpoint creates a row with.",
            id="bulk_import.E009",
        )
    else:
        if not (isinstance(serializer_class, type) and issubclass(serializer_class, Serializer)):
            yield Error(
                f"{target.serializer} of target {target.name!r} is no DRF serializer of one row.",
                hint="Give the dotted path of the serializer that the endpoint creates a row with.",
                id="bulk_import.E009",
            )
        model = getattr(getattr(serializer_class, "Meta", None), "model", None)
        if model is not None and router.db_for_write(model) != database():
            yield Error(
                f"The rows of target {target.name!r} are not in the ledger's database: no transaction spans both.",
                hint="Route the models of bulk_import to the database of the target's model.",
                id="bulk_import.E012",
            )
    try:
        reverse("bulk-import-jobs", kwargs={"target": target.name})
    except NoReverseMatch:
        yield Error(
            f"The target {target.name!r} has no URL.",
            hint=f'Add path("…/bulk", include("bulk_import.urls"), {{"target": "{target.name}"}}).',
            id="bulk_import.E010",
        )


def _check_mail() -> Iterator[CheckMessage]:
    try:
        for template in (TEXT_TEMPLATE, HTML_TEMPLATE):
            get_template(template)
    except (TemplateDoesNotExist, ImproperlyConfigured):
        yield Error(
            "The templates of the mails are not found.",
            hint="Have a DjangoTemplates engine with APP_DIRS in TEMPLATES.",
            id="bulk_import.E015",
        )
    if not (conf().public_url or conf().job_page_url):
        yield Warning(
            "The mails have no links: BULK_IMPORT has neither PUBLIC_URL nor JOB_PAGE_URL.",
            hint='Set PUBLIC_URL to where people reach the API, "https://shop.example" for example.',
            id="bulk_import.W003",
        )
    mailers: Any = getattr(settings, "MAILERS", None)  # from Django 6.1 on, instead of the EMAIL settings
    if mailers is not None:
        mailer = mailers.get("default", {})
        backend, timeout = mailer.get("BACKEND", SMTP_BACKEND), mailer.get("OPTIONS", {}).get("timeout")
        hint = 'Set "timeout" in the OPTIONS of the default mailer, to 10 seconds for example.'
    else:
        backend, timeout = settings.EMAIL_BACKEND, settings.EMAIL_TIMEOUT
        hint = "Set EMAIL_TIMEOUT, to 10 seconds for example."
    if backend == SMTP_BACKEND and not timeout:
        message = "A mail server that hangs holds up the relay and the reports of workers."
        yield Warning(message, hint=hint, id="bulk_import.W002")


def _check_webhook() -> Iterator[CheckMessage]:
    if conf().webhook_url and not _is_fit_for_webhooks(conf().webhook_url):
        yield Error(
            "BULK_IMPORT has a WEBHOOK_URL that is not https://, or that holds a user name or password.",
            hint="Give an https:// URL without credentials; with DEBUG, http:// to this machine will do.",
            id="bulk_import.E013",
        )
    secrets = conf().webhook_secrets
    if (conf().webhook_url and not secrets) or not all(_is_webhook_secret(secret) for secret in secrets):
        yield Error(
            "BULK_IMPORT needs WEBHOOK_SECRETS: whsec_, and {} to {} random bytes in base64.".format(
                *WEBHOOK_SECRET_BYTES
            ),
            hint="Make one: python -c 'import base64, secrets; "
            'print("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())\'',
            id="bulk_import.E014",
        )


def _is_fit_for_webhooks(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, has_credentials = parts.hostname or "", "@" in parts.netloc
        _port = parts.port  # raises ValueError unless it is one
    except ValueError:
        return False
    if not host or has_credentials:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and settings.DEBUG and host in LOOPBACK)


def _is_webhook_secret(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_SECRET_PREFIX), validate=True)
    except ValueError:
        return False
    shortest, longest = WEBHOOK_SECRET_BYTES
    return secret.startswith(WEBHOOK_SECRET_PREFIX) and shortest <= len(key) <= longest


def _check_database() -> Iterator[CheckMessage]:
    connection = connections[database()]
    if connection.vendor not in {"postgresql", "sqlite"}:
        yield Error(
            f"The ledger is proved on PostgreSQL and SQLite, not on {connection.display_name}.",
            hint="Keep the app's tables in one of the two.",
            id="bulk_import.E011",
        )
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor == "sqlite" and options.get("transaction_mode") != "IMMEDIATE":
        yield Warning(
            "SQLite without IMMEDIATE transactions answers concurrent creates with 'database is locked'.",
            hint='Set OPTIONS["transaction_mode"] = "IMMEDIATE".',
            id="bulk_import.W001",
        )
