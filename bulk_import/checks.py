"""System checks: `manage.py check` finds what is not configured correctly, and says how to correct it."""

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
from bulk_import.detail_checks import check_aliases, check_detail
from bulk_import.models import database
from bulk_import.outbox.mail import HTML_TEMPLATE, TEXT_TEMPLATE
from bulk_import.site_checks import check_site
from bulk_import_wire.batch import MAX_BATCH_ROWS
from bulk_import_wire.urls import is_http_url

if TYPE_CHECKING:
    from collections.abc import Iterator

MIDDLEWARE = "bulk_import.middleware.ImportedRowMiddleware"
OLD_MIDDLEWARE = "bulk_import.ledger.ImportedRowMiddleware"
SMTP_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
LOOPBACK = ("localhost", "127.0.0.1", "::1")

MIN_SECRET_CHARACTERS = 32
RANDOM_TEXT_HINT = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"

WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every webhook secret
WEBHOOK_SECRET_BYTES = (24, 64)
"""Fewest and most bytes of a webhook secret, according to the Standard Webhooks specification."""
WEBHOOK_KEY_HINT = (
    "Make one: python -c 'import base64, secrets; "
    'print("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())\''
)


@register(Tags.compatibility)
def check_configuration(**_options: Any) -> list[CheckMessage]:
    """Return everything that is wrong with the configuration. If the settings cannot be read, return only this."""
    try:
        conf()
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(str(error), hint="See docs/settings.md for all settings.", id="bulk_import.E001")]
    return [
        *_check_queue(),
        *_check_secrets(),
        *_check_storages(),
        *_check_middleware(),
        *_check_worker_urls(),
        *_check_targets(),
        *_check_database(),
        *_check_email(),
        *_check_webhooks(),
        *check_site(),
    ]


def _check_queue() -> Iterator[CheckMessage]:
    if not conf().queue_url:
        yield Error("BULK_IMPORT has no QUEUE_URL.", hint="Set it to the URL of the SQS queue.", id="bulk_import.E002")


def _check_secrets() -> Iterator[CheckMessage]:
    if not conf().worker_secrets or _has_short_secret(conf().worker_secrets):
        yield Error(
            f"BULK_IMPORT needs WORKER_SECRETS with at least {MIN_SECRET_CHARACTERS} characters each.",
            hint=RANDOM_TEXT_HINT,
            id="bulk_import.E003",
        )
    if not conf().token_keys or _has_short_secret(conf().token_keys):
        yield Error(
            f"BULK_IMPORT needs TOKEN_KEYS with at least {MIN_SECRET_CHARACTERS} characters each.",
            hint=RANDOM_TEXT_HINT,
            id="bulk_import.E022",
        )
    if _has_short_secret(conf().metrics_secrets):
        yield Error(
            f"Each of the METRICS_SECRETS in BULK_IMPORT must have at least {MIN_SECRET_CHARACTERS} characters.",
            hint=RANDOM_TEXT_HINT,
            id="bulk_import.E016",
        )


def _has_short_secret(secrets: list[str]) -> bool:
    return any(len(secret) < MIN_SECRET_CHARACTERS for secret in secrets)


def _check_storages() -> Iterator[CheckMessage]:
    for alias in (PAYLOADS_STORAGE, FAILURES_STORAGE):
        if alias not in settings.STORAGES:
            yield Error(
                f"STORAGES has no {alias!r}.",
                hint="Add an S3 storage of django-storages under this alias.",
                id="bulk_import.E004",
            )


def _check_middleware() -> Iterator[CheckMessage]:
    last = settings.MIDDLEWARE[-1] if settings.MIDDLEWARE else None
    if last == OLD_MIDDLEWARE:
        yield Warning(
            f"MIDDLEWARE contains {OLD_MIDDLEWARE!r}, the path of the previous release. The next release removes it.",
            hint=f"Replace that line with {MIDDLEWARE!r}.",
            id="bulk_import.W006",
        )
    elif last != MIDDLEWARE:
        yield Error(
            "ImportedRowMiddleware is not the last entry of MIDDLEWARE. Without it, imports cannot create rows.",
            hint=f"Put {MIDDLEWARE!r} at the end.",
            id="bulk_import.E005",
        )


def _check_worker_urls() -> Iterator[CheckMessage]:
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
                f"The target {name!r} must have create_url and serializer. It may have create_kwargs (a dict), "
                "success_statuses (a list of HTTP statuses from 200 to 299), detail_url, lookup, rehearse (True or "
                f"False), batch_rows (1 to {MAX_BATCH_ROWS}) and aliases (a dict of lists), and nothing else.",
                hint='Write {"create_url": "<URL name>", "serializer": "<dotted path>"}.',
                id="bulk_import.E007",
            )
            continue
        yield from _check_target_urls(target)
        yield from _check_target_serializer(target)


def _check_target_urls(target: Target) -> Iterator[CheckMessage]:
    hint = "Use the URL name of the endpoint that creates one row by POST."
    try:
        target.create_view()
    except NoReverseMatch as error:
        yield Error(
            f"The create_url of target {target.name!r} has no URL: {error}",
            hint=f"{hint} If its URL has arguments, set them with create_kwargs.",
            id="bulk_import.E008",
        )
    except (Resolver404, AttributeError):
        message = f"The create_url {target.create_url!r} of target {target.name!r} is not the URL of a DRF view."
        yield Error(message, hint=hint, id="bulk_import.E008")
    try:
        reverse("bulk-import-jobs", kwargs={"target": target.name})
    except NoReverseMatch:
        yield Error(
            f"The target {target.name!r} has no URL.",
            hint=f'Add path("…/bulk", include("bulk_import.urls"), {{"target": "{target.name}"}}).',
            id="bulk_import.E010",
        )


def _check_target_serializer(target: Target) -> Iterator[CheckMessage]:
    hint = "Use the dotted path of the serializer with which the endpoint creates one row."
    try:
        serializer_class = target.serializer_class
    except ImportError as error:
        message = f"The serializer of target {target.name!r} cannot be imported: {error}"
        yield Error(message, hint=hint, id="bulk_import.E009")
        return
    if not (isinstance(serializer_class, type) and issubclass(serializer_class, Serializer)):
        message = f"{target.serializer} of target {target.name!r} is not a DRF serializer for one row."
        yield Error(message, hint=hint, id="bulk_import.E009")
        return
    yield from check_detail(target)
    yield from check_aliases(target)
    model = getattr(getattr(serializer_class, "Meta", None), "model", None)
    if model is not None and router.db_for_write(model) != database():
        yield Error(
            f"The rows of target {target.name!r} and the ledger are in different databases, so that one transaction "
            "cannot write both.",
            hint="Keep the target's model, the users and bulk_import in one database. bulk_import has foreign keys to "
            "the users, so its models cannot be routed alone.",
            id="bulk_import.E012",
        )


def _check_database() -> Iterator[CheckMessage]:
    connection = connections[database()]
    if connection.vendor not in {"postgresql", "sqlite"}:
        yield Error(
            f"The ledger supports PostgreSQL and SQLite, but not {connection.display_name}.",
            hint="Keep the app's tables in one of the two.",
            id="bulk_import.E011",
        )
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor == "postgresql" and _is_too_isolated(options):
        yield Error(
            "The isolation level of the ledger's database is not READ COMMITTED. With a higher level, the report of a "
            "chunk does not see rows that were created while it waited, and lists them as failed.",
            hint='Remove "isolation_level" and "default_transaction_isolation" from the OPTIONS of the database.',
            id="bulk_import.E021",
        )
    if connection.vendor == "sqlite" and options.get("transaction_mode") != "IMMEDIATE":
        yield Warning(
            "Without IMMEDIATE transactions, SQLite fails concurrent creates with “database is locked”.",
            hint='Set OPTIONS["transaction_mode"] = "IMMEDIATE".',
            id="bulk_import.W001",
        )


def _is_too_isolated(options: dict[str, Any]) -> bool:
    """Return whether OPTIONS of a PostgreSQL database sets an isolation level above READ COMMITTED."""
    from django.db.backends.postgresql.psycopg_any import IsolationLevel  # noqa: PLC0415 - needs psycopg

    level = options.get("isolation_level", IsolationLevel.READ_COMMITTED)
    # Example of "options": `-c default_transaction_isolation=repeatable\\ read`, where libpq needs the backslash.
    libpq = str(options.get("options", "")).lower()
    in_libpq = "default_transaction_isolation" in libpq and ("serializable" in libpq or "repeatable" in libpq)
    return in_libpq or level not in {IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED}


def _check_email() -> Iterator[CheckMessage]:
    try:
        for template in (TEXT_TEMPLATE, HTML_TEMPLATE):
            get_template(template)
    except (TemplateDoesNotExist, ImproperlyConfigured):
        yield Error(
            "The templates of the emails cannot be found.",
            hint="Use a DjangoTemplates engine with APP_DIRS in TEMPLATES.",
            id="bulk_import.E015",
        )
    if not (conf().public_url or conf().job_page_url):
        yield Warning(
            "The emails have no links, because BULK_IMPORT has neither PUBLIC_URL nor JOB_PAGE_URL.",
            hint='Set PUBLIC_URL to the address of the API, for example "https://shop.example".',
            id="bulk_import.W003",
        )
    mailers: Any = getattr(settings, "MAILERS", None)  # replaces the EMAIL settings since Django 6.1
    if mailers is not None:
        mailer = mailers.get("default", {})
        backend, timeout = mailer.get("BACKEND", SMTP_BACKEND), mailer.get("OPTIONS", {}).get("timeout")
        hint = 'Set "timeout" in the OPTIONS of the default mailer, for example to 10 seconds.'
    else:
        backend, timeout = settings.EMAIL_BACKEND, settings.EMAIL_TIMEOUT
        hint = "Set EMAIL_TIMEOUT, for example to 10 seconds."
    if backend == SMTP_BACKEND and not timeout:
        message = "Without a timeout, an email server that does not respond blocks the relay and the workers' reports."
        yield Warning(message, hint=hint, id="bulk_import.W002")


def _check_webhooks() -> Iterator[CheckMessage]:
    if conf().webhook_url and not _is_safe_webhook_url(conf().webhook_url):
        yield Error(
            "The WEBHOOK_URL in BULK_IMPORT is not an https:// URL, or it contains a user name or a password.",
            hint="Use an https:// URL without credentials. With DEBUG, http:// to this machine is allowed too.",
            id="bulk_import.E013",
        )
    secrets = conf().webhook_secrets
    if (conf().webhook_url and not secrets) or not all(_is_webhook_secret(secret) for secret in secrets):
        shortest, longest = WEBHOOK_SECRET_BYTES
        yield Error(
            f"BULK_IMPORT needs WEBHOOK_SECRETS: whsec_ followed by {shortest} to {longest} random bytes in base64.",
            hint=WEBHOOK_KEY_HINT,
            id="bulk_import.E014",
        )


def _is_safe_webhook_url(url: str) -> bool:
    """Return whether webhooks may be sent there. They contain confidential data, so HTTP is only for development."""
    if not is_http_url(url):
        return False
    parts = urlsplit(url)
    if "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (settings.DEBUG and parts.hostname in LOOPBACK)


def _is_webhook_secret(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_SECRET_PREFIX), validate=True)
    except ValueError:
        return False
    shortest, longest = WEBHOOK_SECRET_BYTES
    return secret.startswith(WEBHOOK_SECRET_PREFIX) and shortest <= len(key) <= longest
