"""`manage.py check` finds what is not configured correctly, and says how to correct it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import django
import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models import UniqueConstraint
from django.http import HttpResponse
from django.urls import include, path

from bulk_import import checks, detail_checks, site_checks
from bulk_import.checks import check_configuration
from bulk_import.models import ImportedRow
from settings.urls import urlpatterns as shop_urls

if TYPE_CHECKING:
    from django.db.models import Model
    from pytest_django import Settings

SERIALIZER = "products.serializers.ProductSerializer"
CREATE_URL = "products:product-list"
TARGET = {"create_url": CREATE_URL, "serializer": SERIALIZER}
WORKER_URLS = path("bulk-import/worker/", include("bulk_import.worker_urls"))

# This module can be the ROOT_URLCONF: it has the URLs of the shop and an endpoint that is not a DRF view.
urlpatterns = [path("plain", lambda _request: HttpResponse(), name="plain"), *shop_urls]

MISCONFIGURED: list[tuple[str, dict[str, Any]]] = [
    ("E001", {"MAX_ROW": 7}),
    ("E001", {"CHUNK_ROWS": 0}),
    ("E001", {"LEDGER_RETENTION_DAYS": 27}),
    ("E002", {"QUEUE_URL": ""}),
    ("E003", {"WORKER_SECRETS": []}),
    ("E003", {"WORKER_SECRETS": ["x" * 32, "x" * 31]}),
    ("E003", {"WORKER_SECRETS": ["x" * 32, ""]}),
    ("E001", {"WORKER_SECRETS": "a string of 32 characters, or so"}),
    ("E001", {"NOTIFY_DOMAINS": "shop.example"}),
    ("E001", {"PUBLIC_URL": "shop.example"}),
    ("E001", {"PUBLIC_URL": "javascript://shop.example"}),
    ("E001", {"PUBLIC_URL": "https://[shop.example"}),
    ("E001", {"PUBLIC_URL": "https://shop.example:port"}),
    ("E001", {"PUBLIC_URL": ["https://shop.example"]}),
    ("E001", {"MAX_DEPTH": 7}),
    ("E001", {"JOB_PAGE_URL": "/imports/{id}"}),
    ("E001", {"JOB_PAGE_URL": "https://shop.example/imports"}),
    ("E007", {"TARGETS": {"products": {"create_url": CREATE_URL}}}),
    ("E007", {"TARGETS": {"products": {**TARGET, "colour": "red"}}}),
    ("E007", {"TARGETS": {"products": {**TARGET, "batch_rows": 0}}}),
    ("E007", {"TARGETS": {"products": {**TARGET, "batch_rows": 101}}}),
    ("E007", {"TARGETS": {"products": None}}),
    ("E007", {"TARGETS": {"products": SERIALIZER}}),
    ("E008", {"TARGETS": {"products": {**TARGET, "create_url": "products:nothing"}}}),
    ("E008", {"TARGETS": {"products": {**TARGET, "create_url": "products:product-detail"}}}),
    ("E008", {"TARGETS": {"products": {**TARGET, "create_url": "plain"}}}),
    ("E009", {"TARGETS": {"products": {**TARGET, "serializer": "products.serializers.Nothing"}}}),
    ("E009", {"TARGETS": {"products": {**TARGET, "serializer": "nothing"}}}),
    ("E009", {"TARGETS": {"products": {**TARGET, "serializer": "products.models.Product"}}}),
    ("E009", {"TARGETS": {"products": {**TARGET, "serializer": "products.validators.validate_ean13"}}}),
    ("E009", {"TARGETS": {"products": {**TARGET, "serializer": "rest_framework.serializers.ListSerializer"}}}),
    ("E010", {"TARGETS": {"boats": TARGET}}),
    *[
        ("E030", {"TARGETS": {"products": {**TARGET, "detail_url": url}}})
        for url in ["products:nothing", "nowhere:product-detail", "plain", CREATE_URL]
    ],
    *[
        ("E032", {"TARGETS": {"products": {**TARGET, "aliases": aliases}}})
        for aliases in [
            {"colour": ["Hue"]},  # no field
            {"name": ["Código"], "sku": ["codigo"]},
            {"name": ["S K U"]},
        ]
    ],
    *[
        ("E031", {"TARGETS": {"products": {**TARGET, "lookup": field}}})
        for field in ["colour", "name", "category", "created_at"]  # unknown, not unique, a relation, read-only
    ],
    ("E022", {"TOKEN_KEYS": []}),
    ("E022", {"TOKEN_KEYS": ["x" * 32, "x" * 31]}),
    ("E001", {"TOKEN_KEYS": "x" * 32}),
    ("E016", {"METRICS_SECRETS": ["x" * 31]}),
    ("E001", {"METRICS_SECRETS": "x" * 32}),
    ("E001", {"WEBHOOK_SECRETS": "whsec_" + "A" * 32}),
    *[
        ("E013", {"WEBHOOK_URL": url})
        for url in [
            "http://shop.example/hooks",
            "http://localhost:9000/hooks",  # allowed only with DEBUG
            "https://",
            "https://shop.example:port/",
            "https://[shop.example/",
            "https://me:password@shop.example/hooks",
            "shop.example/hooks",
            "ftp://shop.example/hooks",
        ]
    ],
    *[
        ("E014", {"WEBHOOK_URL": "https://shop.example/hooks", "WEBHOOK_SECRETS": secrets})
        for secrets in [
            [],
            [""],
            ["A" * 32],
            ["whsec_" + "A" * 28],  # 21 bytes
            ["whsec_" + "A" * 92],  # 69 bytes
            ["whsec_" + "A" * 32 + "!"],
            ["whsec_" + "A" * 32, "whsec_" + "é" * 32],
        ]
    ],
]


@pytest.fixture
def _with_plain_url(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


def assert_reported(identifier: str) -> None:
    """Assert that exactly this problem is reported, with a hint."""
    [message] = check_configuration()

    assert (message.id, bool(message.hint)) == (f"bulk_import.{identifier}", True)


def test_the_settings_of_the_shop_have_no_problems() -> None:
    assert check_configuration() == []


@pytest.mark.django_db
def test_django_runs_the_checks(settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "QUEUE_URL": ""}

    assert [message.id for message in run_checks()] == ["bulk_import.E002"]


@pytest.mark.usefixtures("_with_plain_url")
@pytest.mark.parametrize(("identifier", "wrong"), MISCONFIGURED)
def test_an_invalid_setting_is_reported(identifier: str, wrong: dict[str, Any], settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **wrong}

    assert_reported(identifier)


def test_a_setting_that_is_not_a_dict_is_reported(settings: Settings) -> None:
    settings.BULK_IMPORT = "products"

    assert_reported("E001")


@pytest.mark.parametrize("alias", ["bulk_import_payloads", "bulk_import_failures"])
def test_a_missing_storage_is_reported(alias: str, settings: Settings) -> None:
    settings.STORAGES = {name: storage for name, storage in settings.STORAGES.items() if name != alias}

    assert_reported("E004")
    assert alias in check_configuration()[0].msg


@pytest.mark.parametrize(
    "middleware",
    [
        [],
        ["django.middleware.common.CommonMiddleware"],
        ["bulk_import.middleware.ImportedRowMiddleware", "django.middleware.common.CommonMiddleware"],
    ],
    ids=["empty", "without it", "not last"],
)
def test_a_middleware_that_is_not_the_last_one_is_reported(middleware: list[str], settings: Settings) -> None:
    settings.MIDDLEWARE = middleware

    assert_reported("E005")


def test_a_worker_api_without_a_url_is_reported(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    without = [pattern for pattern in shop_urls if "worker" not in str(pattern.pattern)]
    monkeypatch.setattr(f"{__name__}.urlpatterns", without)
    settings.ROOT_URLCONF = __name__

    assert_reported("E006")


def test_an_unsupported_database_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "oracle")

    assert_reported("E011")


def test_sqlite_without_immediate_transactions_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})

    assert_reported("W001")


def test_an_email_server_without_a_timeout_is_reported(settings: Settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"

    assert_reported("W002")


if django.VERSION >= (6, 1):  # older versions have no mailers

    @pytest.mark.parametrize(("options", "expected"), [({}, ["bulk_import.W002"]), ({"timeout": 10}, [])])
    def test_a_mailer_without_a_timeout_is_reported(options: dict[str, int], expected: list[str]) -> None:
        """The check runs in its own process, because MAILERS and the older EMAIL settings exclude each other."""
        code = (
            "import os, settings.local as s; [vars(s).pop(n) for n in list(vars(s)) if n.startswith('EMAIL_')];"
            f"s.MAILERS = {{'default': {{'OPTIONS': {options}}}}};"
            "os.environ['DJANGO_SETTINGS_MODULE'] = 'settings.local'; import django; django.setup();"
            "from bulk_import.checks import check_configuration; print(*[m.id for m in check_configuration()])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

        assert run.stdout.split() == expected, run.stderr


def test_emails_without_links_are_reported(settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PUBLIC_URL": "", "JOB_PAGE_URL": ""}

    assert_reported("W003")


def test_a_job_page_is_enough_for_links(settings: Settings) -> None:
    page = {"PUBLIC_URL": "", "JOB_PAGE_URL": "https://shop.example/imports/{id}"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **page}

    assert check_configuration() == []


def test_templates_that_cannot_be_found_are_reported(settings: Settings) -> None:
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "APP_DIRS": False}]

    assert_reported("E015")


@pytest.mark.parametrize(
    ("url", "debug"),
    [
        ("https://shop.example:8443/hooks?from=imports", False),
        ("http://localhost:9000/hooks", True),
        ("http://[::1]:9000/hooks", True),
    ],
)
def test_a_webhook_by_https_or_with_debug_to_this_machine_is_allowed(url: str, debug: bool, settings: Settings) -> None:
    settings.DEBUG = debug
    secrets = ["whsec_" + "A" * 32, "whsec_" + "A" * 84 + "AA=="]  # the shortest and the longest
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WEBHOOK_URL": url, "WEBHOOK_SECRETS": secrets}

    assert check_configuration() == []


def test_a_webhook_by_http_to_another_machine_is_reported_even_with_debug(settings: Settings) -> None:
    settings.DEBUG = True
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WEBHOOK_URL": "http://shop.example/hooks"}

    assert_reported("E013")


class ElsewhereRouter:
    """Routes the ledger to a different database than the models of the shop."""

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        return "elsewhere" if model is ImportedRow else None


def test_a_ledger_in_another_database_than_the_rows_is_reported(settings: Settings) -> None:
    """One transaction could not write both, and a row without its ledger record would be created twice."""
    settings.DATABASE_ROUTERS = [ElsewhereRouter()]

    with patch.object(connections, "settings", {**connections.settings, "elsewhere": connections.settings["default"]}):
        assert_reported("E012")


def test_the_ledger_and_the_rows_may_share_any_database(settings: Settings) -> None:
    class BothRouter:
        def db_for_write(self, _model: type[Model], **_hints: Any) -> str:
            return "elsewhere"

    settings.DATABASE_ROUTERS = [BothRouter()]
    with patch.object(connections, "settings", {**connections.settings, "elsewhere": connections.settings["default"]}):
        assert check_configuration() == []


def test_throttles_that_count_per_process_are_reported_without_debug(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert_reported("W011")

    settings.DEBUG = True
    assert check_configuration() == []


@pytest.mark.parametrize("backend", ["django.core.files.storage.FileSystemStorage", "nowhere.S3Storage"])
def test_a_storage_whose_timeouts_cannot_be_set_is_reported(settings: Settings, backend: str) -> None:
    settings.STORAGES = {**settings.STORAGES, "bulk_import_failures": {"BACKEND": backend}}

    assert_reported("E024")


def test_local_times_without_a_time_zone_are_refused(settings: Settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "UTC"
    assert check_configuration() == []

    settings.TIME_ZONE = "America/Chicago"
    assert_reported("E033")


@pytest.mark.parametrize(
    ("shared", "of_tenants"),
    [
        (["django.contrib.auth"], ["products"]),
        (["bulk_import", "django.contrib.auth"], ["bulk_import.apps.BulkImportConfig"]),
        (["bulk_import", "django.contrib.auth"], ["django.contrib.auth"]),
    ],
)
def test_imports_or_users_in_the_schema_of_each_tenant_are_refused(
    settings: Settings, shared: list[str], of_tenants: list[str]
) -> None:
    settings.SHARED_APPS, settings.TENANT_APPS = ["bulk_import", "django.contrib.auth"], ["products"]
    assert check_configuration() == []

    settings.SHARED_APPS, settings.TENANT_APPS = shared, of_tenants
    assert_reported("E034")


class RevisionMiddleware:
    """Stands for the middleware of django-reversion, which opens a transaction around each request."""

    atomic = True


RevisionMiddleware.__module__ = "reversion.middleware"


class OwnRevisionMiddleware(RevisionMiddleware):
    """A site's own subclass."""


class ManualRevisionMiddleware(RevisionMiddleware):
    """A subclass that opens no transaction."""

    atomic = False


def test_a_middleware_that_opens_a_transaction_is_reported(settings: Settings) -> None:
    settings.MIDDLEWARE = [f"{__name__}.{OwnRevisionMiddleware.__name__}", *settings.MIDDLEWARE]
    assert_reported("E023")

    settings.MIDDLEWARE[0] = f"{__name__}.{ManualRevisionMiddleware.__name__}"
    assert check_configuration() == []


def test_the_old_path_of_the_middleware_is_reported_with_the_new_one(settings: Settings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:-1], "bulk_import.ledger.ImportedRowMiddleware"]

    assert_reported("W006")
    assert checks.MIDDLEWARE in str(check_configuration()[0].hint)


def test_every_check_has_a_test_here() -> None:
    """Fails when somebody adds a check without a test."""
    sources = "".join(
        Path(str(module.__file__)).read_text(encoding="utf-8") for module in (checks, detail_checks, site_checks)
    )
    reported = set(re.findall(r"bulk_import\.([EW]\d{3})", sources))
    tested = set(re.findall(r"\"([EW]\d{3})\"", Path(__file__).read_text(encoding="utf-8")))

    assert reported == tested


@pytest.mark.parametrize(
    "options",
    [
        {"isolation_level": IsolationLevel.REPEATABLE_READ},
        {"isolation_level": IsolationLevel.SERIALIZABLE},
        {"options": "-c default_transaction_isolation=serializable"},
        {"options": "-c default_transaction_isolation=repeatable\\ read"},
    ],
)
def test_an_isolation_level_above_read_committed_is_reported(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connections["default"]
    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)

    assert_reported("E021")


@pytest.mark.parametrize(
    "options", [{}, {"isolation_level": IsolationLevel.READ_COMMITTED}, {"options": "-c statement_timeout=5000"}]
)
def test_read_committed_is_not_reported(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connections["default"]
    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)

    assert check_configuration() == []


@pytest.mark.parametrize("model", [*apps.get_app_config("bulk_import").get_models()])
def test_no_index_has_the_fields_of_a_unique_constraint(model: Any) -> None:
    """NetBox's system check refuses such a model, even if the index is partial."""
    indexed = {tuple(index.fields) for index in model._meta.indexes}
    unique = {tuple(found.fields) for found in model._meta.constraints if isinstance(found, UniqueConstraint)}

    assert not indexed & unique
