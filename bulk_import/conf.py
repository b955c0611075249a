"""The setting `BULK_IMPORT`: typed, with defaults, and looked up each time it is used, so that a test can override it.

docs/settings.md explains every setting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import resolve
from django.utils.module_loading import import_string

from bulk_import.detail_endpoint import DetailEndpoint, NoDetailEndpoint
from bulk_import.site_paths import find_path
from bulk_import_wire.batch import MAX_BATCH_ROWS
from bulk_import_wire.urls import is_http_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rest_framework.request import Request
    from rest_framework.serializers import Serializer
    from rest_framework.views import APIView

PAYLOADS_STORAGE = "bulk_import_payloads"
FAILURES_STORAGE = "bulk_import_failures"
"""Aliases in Django's `STORAGES`. Each one must be an S3 storage of django-storages."""

SUCCESS = range(200, 300)
"""The HTTP statuses that mean success."""


@dataclass(frozen=True, slots=True)
class Target:
    """A create endpoint that imports can use: one entry of `BULK_IMPORT["TARGETS"]`."""

    name: str
    create_url: str  # URL name of the create endpoint, which must be a DRF view
    serializer: str  # dotted path of the serializer that the endpoint uses
    create_kwargs: dict[str, Any] = field(default_factory=dict)  # the arguments of the endpoint's URL, if it has any
    success_statuses: Sequence[int] = (HTTPStatus.CREATED,)  # the HTTP statuses with which it answers a creation
    detail_url: str = ""  # URL name of the endpoint that changes and deletes one object
    lookup: str = ""  # field of the serializer that identifies an object for people; it must be unique
    aliases: dict[str, Sequence[str]] = field(default_factory=dict)  # further names of columns, by field
    rehearse: bool = False  # whether users may try imports whose rows are rolled back
    batch_rows: int = 1  # most rows that a worker sends in one request; with 1, each row is a request of its own

    def __post_init__(self) -> None:
        if not isinstance(self.create_kwargs, dict):
            raise TypeError("create_kwargs must be a dict")
        if not isinstance(self.rehearse, bool):
            raise TypeError("rehearse must be True or False")
        if type(self.batch_rows) is not int or not 1 <= self.batch_rows <= MAX_BATCH_ROWS:
            raise TypeError(f"batch_rows must be a whole number from 1 to {MAX_BATCH_ROWS}")
        statuses = self.success_statuses
        if not (isinstance(statuses, list | tuple) and statuses and all(status in SUCCESS for status in statuses)):
            raise TypeError("success_statuses must be a list of HTTP statuses from 200 to 299")
        aliases = self.aliases.values() if isinstance(self.aliases, dict) else [None]
        if not all(isinstance(names, list | tuple) for names in aliases):
            raise TypeError("aliases must be a dict with a list of names for each field")

    @property
    def create_path(self) -> str:
        """The path of the create endpoint within the site, without the prefix under which a server mounts the site."""
        return find_path(self.create_url, self.create_kwargs)

    @property
    def detail_endpoint(self) -> DetailEndpoint | None:
        """The endpoint of one object; None without a `detail_url`, or if `manage.py check` reports it as wrong."""
        try:
            return DetailEndpoint.find(self.detail_url, self.create_kwargs) if self.detail_url else None
        except NoDetailEndpoint:
            return None

    @property
    def serializer_class(self) -> type[Serializer[Any]]:
        serializer_class: type[Serializer[Any]] = import_string(self.serializer)
        return serializer_class

    def create_view(self, request: Request | None = None) -> APIView:
        """Return a new instance of the create endpoint's view, to ask it for its permissions and its serializer."""
        match = resolve(self.create_path)
        callback: Any = match.func
        view: APIView = callback.cls(**callback.initkwargs)
        view.action = "create"  # type: ignore[attr-defined] # what a ViewSet sets for POST
        view.args, view.kwargs, view.format_kwarg = match.args, match.kwargs, None
        if request is not None:
            view.request, request.resolver_match = request, match  # permission classes may read both
        return view

    def create_serializer(self, request: Request, *, partial: bool = False) -> Serializer[Any]:
        """Return a new serializer for this request. Its context has a new view of the create endpoint, as `view`."""
        context = {"request": request, "view": self.create_view(request)}
        return self.serializer_class(context=context, partial=partial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """All settings. In `settings.BULK_IMPORT`, their names are written in capitals."""

    # Connections
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)  # see Target
    queue_url: str = ""
    queue_client: dict[str, Any] = field(default_factory=dict)  # keyword arguments for boto3.client("sqs")
    worker_secrets: list[str] = field(default_factory=list)  # each one gives access to the worker API
    token_keys: list[str] = field(default_factory=list)  # the first one signs import tokens; each one verifies them
    webhook_url: str = ""  # "" sends no webhooks
    webhook_secrets: list[str] = field(default_factory=list)  # "whsec_…"; each one signs every webhook
    metrics_secrets: list[str] = field(default_factory=list)  # each one gives access to the metrics

    # Limits of one upload
    max_body_bytes: int = 64 * 1024 * 1024
    max_rows: int = 100_000
    max_row_bytes: int = 64 * 1024
    require_idempotency_key: bool = False

    # Limits of one user
    submission_rate: str = "60/min"  # in the notation of DRF's throttle rates
    max_open_jobs: int = 20
    max_rows_per_day: int = 1_000_000

    # Processing
    chunk_rows: int = 200  # two seconds of work at 100 rows per second, so that imports take turns often
    chunks_in_flight: int = 4  # of each target; twice the two invocations, so that the next message is already there
    concurrency: int = 16  # most concurrent calls of the create endpoint, per chunk
    report_load: bool = True  # whether create calls learn how fast the site's other requests are
    lease_seconds: int = 60
    pause_seconds: int = 30
    max_pause_hours: int = 24
    max_failed_share: float | None = 0.9  # of the rows tried since the last resume; None never pauses a job for them
    token_header: str = "Authorization"  # noqa: S105 - name of the header of a create call that contains its import token
    host_header: str = "Host"  # header of a create call that contains the host of the upload; "" sends none

    # Emails
    public_url: str = ""  # such as "https://shop.example"
    job_page_url: str = ""  # such as "https://shop.example/imports/{id}"
    notify_domains: list[str] = field(default_factory=list)

    # Retention in days after the end of a job; None keeps the data forever
    payload_retention_days: int | None = 30
    failures_retention_days: int | None = 30
    ledger_retention_days: int | None = 30
    job_retention_days: int | None = None

    def target(self, name: str) -> Target:
        """Return the target with this name. Raises KeyError if there is none."""
        return Target(name=name, **self.targets[name])


LISTS = {
    "worker_secrets": "each letter would be a secret",
    "token_keys": "each letter would be a key",
    "webhook_secrets": "each letter would be a secret",
    "metrics_secrets": "each letter would be a secret",
    "notify_domains": "each letter would be a domain",
}
"""The settings that are lists, and what would happen if a string were accepted instead."""

NUMBERS = frozenset(f.name for f in fields(Conf) if f.type == "int")

MAX_CHUNK_ROWS = 5000
"""Largest CHUNK_ROWS. The answer to a claim lists the created rows of the chunk, and a worker reads 64 KiB of it.

If every other row was created, 5,000 rows are 2,500 ranges of at most 24 bytes.
"""

MIN_LEASE_SECONDS = 2
"""Shortest LEASE_SECONDS. A heartbeat must come before the lease expires, and the shortest interval is 1 second."""

MIN_LEDGER_DAYS = 28
"""Days that SQS may keep a message of a finished job: 14 on the queue and 14 on the dead-letter queue.

While such a message may still arrive, the ledger is needed to prevent its rows from being created again.
"""

MAX_RETENTION_DAYS = 36_500
"""Longest retention, a hundred years. To keep data for longer, use None."""

RETENTIONS = {
    "payload_retention_days": 1,
    "failures_retention_days": 1,
    "ledger_retention_days": MIN_LEDGER_DAYS,
    "job_retention_days": MIN_LEDGER_DAYS,
}
"""The settings for retention, each with the fewest days allowed."""

REMOVED = frozenset(
    {
        "chunk_bytes",
        "heartbeat_seconds",
        "mail_attachment_bytes",
        "mail_attachment_rows",
        "max_depth",
        "max_integer_digits",
        "max_listed_errors",
        "max_notify",
    }
)
"""Names of former settings. Their values are now constants."""

HEADER_NAME = re.compile("[A-Za-z0-9-]+")
"""Pattern of the header names that every server passes on. WSGI servers drop headers with other names."""


def token_header() -> str:
    """Return TOKEN_HEADER. Every request of the site needs it, so the settings are not validated here."""
    setting = getattr(settings, "BULK_IMPORT", None)
    return str(setting.get("TOKEN_HEADER", "Authorization")) if isinstance(setting, dict) else "Authorization"


def reports_load() -> bool:
    """Return REPORT_LOAD. Every request of the site needs it, so the settings are not validated here."""
    setting = getattr(settings, "BULK_IMPORT", None)
    return bool(setting.get("REPORT_LOAD", True)) if isinstance(setting, dict) else True


_CHECKED: dict[int, tuple[dict[str, Any], Conf]] = {}
"""The value of the setting that was checked last, and the settings that it gives, under the `id` of the value."""


def conf() -> Conf:
    """Return the current settings. Raises ImproperlyConfigured for unknown names and invalid values.

    A value is checked once and not for each call, because every create call needs the settings several times.
    """
    setting = getattr(settings, "BULK_IMPORT", {})
    if checked := _CHECKED.get(id(setting)):
        return checked[1]
    if not isinstance(setting, dict):
        raise ImproperlyConfigured("BULK_IMPORT must be a dict.")
    given = {name.lower(): value for name, value in setting.items()}
    check_names(given.keys())
    check_values(given)
    found = Conf(**given)
    _CHECKED.clear()
    _CHECKED[id(setting)] = setting, found  # keeps the value alive, so that no other value can get its `id`
    return found


def check_names(names: Iterable[str]) -> None:
    """Raise ImproperlyConfigured if a name is not, or no longer, a setting."""
    unknown = sorted(set(names) - {f.name for f in fields(Conf)})
    for name in unknown:
        if name in REMOVED:
            raise ImproperlyConfigured(f"BULK_IMPORT {name.upper()} is no longer a setting. Remove it.")
    if unknown:
        raise ImproperlyConfigured(f"BULK_IMPORT has unknown settings: {', '.join(unknown).upper()}")


def check_values(given: dict[str, Any]) -> None:
    """Raise ImproperlyConfigured, with the name of the setting and what its value must be, for an invalid value."""
    for name, consequence in LISTS.items():
        if isinstance(given.get(name), str):
            raise ImproperlyConfigured(f"BULK_IMPORT {name.upper()} must be a list. In a string, {consequence}.")
    check_numbers(given)
    check_headers(given)
    for name in given.keys() & {"public_url", "job_page_url"}:
        url = given[name]
        if url and not (isinstance(url, str) and is_http_url(url)):
            raise ImproperlyConfigured(
                f"BULK_IMPORT {name.upper()} must be an absolute URL such as https://shop.example."
            )
    if given.get("job_page_url") and "{id}" not in given["job_page_url"]:
        raise ImproperlyConfigured("BULK_IMPORT JOB_PAGE_URL must contain {id} where the ID of the job belongs.")
    for name in given.keys() & RETENTIONS.keys():
        days, least = given[name], RETENTIONS[name]
        if days is not None and (type(days) is not int or not least <= days <= MAX_RETENTION_DAYS):
            raise ImproperlyConfigured(
                f"BULK_IMPORT {name.upper()} must be whole days from {least} to {MAX_RETENTION_DAYS}, or None."
            )
    share = given.get("max_failed_share")
    if share is not None and not (type(share) is float and 0 < share < 1):
        raise ImproperlyConfigured("BULK_IMPORT MAX_FAILED_SHARE must be between 0 and 1, for example 0.9, or None.")


def check_numbers(given: dict[str, Any]) -> None:
    """Raise ImproperlyConfigured for a number that is not a whole number above zero, or that is too large or small."""
    for name in given.keys() & NUMBERS:
        if type(given[name]) is not int or given[name] < 1:
            raise ImproperlyConfigured(f"BULK_IMPORT {name.upper()} must be a whole number above zero.")
    if given.get("chunk_rows", 1) > MAX_CHUNK_ROWS:
        raise ImproperlyConfigured(f"BULK_IMPORT CHUNK_ROWS must be at most {MAX_CHUNK_ROWS}.")
    if given.get("lease_seconds", MIN_LEASE_SECONDS) < MIN_LEASE_SECONDS:
        raise ImproperlyConfigured(f"BULK_IMPORT LEASE_SECONDS must be at least {MIN_LEASE_SECONDS}.")


def check_headers(given: dict[str, Any]) -> None:
    """Raise ImproperlyConfigured if a setting is not the name of a header. Only HOST_HEADER may be empty."""
    for name in given.keys() & {"token_header", "host_header"}:
        header = given[name]
        is_header = isinstance(header, str) and HEADER_NAME.fullmatch(header)
        if not is_header and (name, header) != ("host_header", ""):
            raise ImproperlyConfigured(f"BULK_IMPORT {name.upper()} must be the name of an HTTP header.")
