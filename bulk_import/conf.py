"""The `BULK_IMPORT` setting, typed, with its defaults. Read when used, so that a test can override it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_script_prefix, resolve, reverse
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.serializers import Serializer
    from rest_framework.views import APIView

PAYLOADS_STORAGE = "bulk_import_payloads"
FAILURES_STORAGE = "bulk_import_failures"
"""Aliases in Django's `STORAGES`; each an S3 storage of django-storages."""


@dataclass(frozen=True, slots=True)
class Target:
    """A create endpoint that jobs can feed: one entry of `BULK_IMPORT["TARGETS"]`."""

    name: str
    create_url: str  # URL name of the create endpoint, a DRF view
    serializer: str  # dotted path of the serializer that the endpoint uses

    @property
    def create_path(self) -> str:
        return reverse(self.create_url)

    @property
    def serializer_class(self) -> type[Serializer[Any]]:
        serializer_class: type[Serializer[Any]] = import_string(self.serializer)
        return serializer_class

    def create_view(self, request: Request | None = None) -> APIView:
        """A fresh instance of the create endpoint's view, to ask what it would allow."""
        # reverse() knows of the prefix that the server mounts the site at, resolve() must not see it.
        callback: Any = resolve("/" + self.create_path.removeprefix(get_script_prefix())).func
        view: APIView = callback.cls(**callback.initkwargs)
        view.action = "create"  # type: ignore[attr-defined] # what a ViewSet sets for POST
        view.args, view.kwargs, view.format_kwarg = (), {}, None
        if request is not None:
            view.request = request
        return view


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """All settings. A name is written in capitals in `settings.BULK_IMPORT`."""

    targets: dict[str, dict[str, str]] = field(default_factory=dict)
    queue_url: str = ""
    queue_client: dict[str, Any] = field(default_factory=dict)  # keyword arguments for boto3.client("sqs")
    worker_secrets: list[str] = field(default_factory=list)  # any of them opens the worker API, so they rotate
    webhook_url: str = ""  # where programs are told what happens to a job; "" for nowhere
    webhook_secrets: list[str] = field(default_factory=list)  # "whsec_…"; signed with each of them, so they rotate
    metrics_secrets: list[str] = field(default_factory=list)  # any of them opens the metrics; without one they are shut

    max_body_bytes: int = 64 * 1024 * 1024
    max_rows: int = 100_000
    max_row_bytes: int = 64 * 1024
    max_depth: int = 32  # nesting of arrays and objects within a row
    max_integer_digits: int = 30
    max_listed_errors: int = 100  # all are counted

    require_idempotency_key: bool = False  # whether a POST without Idempotency-Key is a 400
    submission_rate: str = "60/min"  # POSTs of one user, in DRF's notation of a throttle rate
    max_open_jobs: int = 20  # of one user, not yet ended
    max_rows_per_day: int = 1_000_000  # of one user, in any 24 hours

    chunk_rows: int = 500  # some seconds of work: far from the 15 minutes that a Lambda has
    chunk_bytes: int = 4 * 1024 * 1024  # what a worker holds in memory
    concurrency: int = 4  # create calls in flight, per chunk; docs/performance.md says what it does to others
    lease_seconds: int = 60
    heartbeat_seconds: int = 2  # also how fresh the counts of a job are
    pause_seconds: int = 30  # until a job whose endpoint is away is tried again; each time longer, up to 5 minutes
    max_pause_hours: int = 24  # then what is left of a paused job is given up, to be redriven

    public_url: str = ""  # "https://shop.example": where people reach the API; without it, mails link to no download
    job_page_url: str = ""  # "https://shop.example/imports/{id}": a page of yours about a job, for the mails
    mail_attachment_rows: int = 1_000  # failures attached to a mail; more are a link
    mail_attachment_bytes: int = 1024 * 1024  # of that CSV; mail makes a third more of it, and many servers take 10 MiB
    max_notify: int = 5  # recipients of a job beside its submitter
    notify_domains: list[str] = field(default_factory=list)  # whose addresses they may be; by default nobody's
    # Days after a job's end; None keeps it for ever. `manage.py bulk_import_expire` deletes what has expired.
    payload_retention_days: int | None = 30
    failures_retention_days: int | None = 30
    ledger_retention_days: int | None = 30  # not less than MIN_LEDGER_DAYS
    job_retention_days: int | None = None  # and all that is left of it; not less than MIN_LEDGER_DAYS

    def target(self, name: str) -> Target:
        """Raises KeyError when there is no such target."""
        return Target(name=name, **self.targets[name])


LISTS = {
    "worker_secrets": "each letter would be a secret",
    "webhook_secrets": "each letter would be a secret",
    "metrics_secrets": "each letter would be a secret",
    "notify_domains": "each letter would be a domain",
}
"""The settings that are lists, and what becomes of a string."""

NUMBERS = frozenset(f.name for f in fields(Conf) if f.type == "int")

MIN_LEDGER_DAYS = 28
"""How long SQS may keep a message of a job that has ended: 14 days on the queue, 14 on the dead-letter queue."""

MAX_RETENTION_DAYS = 36_500
"""A hundred years; whoever means longer means None."""

RETENTIONS = {
    "payload_retention_days": 1,
    "failures_retention_days": 1,
    "ledger_retention_days": MIN_LEDGER_DAYS,
    "job_retention_days": MIN_LEDGER_DAYS,
}
"""Each with the fewest days that it may be."""


def conf() -> Conf:
    """The settings as they are now. Raises ImproperlyConfigured for what cannot be meant."""
    setting = getattr(settings, "BULK_IMPORT", {})
    if not isinstance(setting, dict):
        raise ImproperlyConfigured("BULK_IMPORT must be a dict.")
    given = {name.lower(): value for name, value in setting.items()}
    unknown = given.keys() - {f.name for f in fields(Conf)}
    if unknown:
        names = ", ".join(sorted(unknown)).upper()
        raise ImproperlyConfigured(f"BULK_IMPORT has unknown settings: {names}")
    check_values(given)
    return Conf(**given)


def check_values(given: dict[str, Any]) -> None:
    """Raises ImproperlyConfigured, with the name of the setting and what it must be."""
    for name, consequence in LISTS.items():
        if isinstance(given.get(name), str):
            raise ImproperlyConfigured(f"BULK_IMPORT {name.upper()} must be a list; {consequence}.")
    for name in given.keys() & NUMBERS:
        if type(given[name]) is not int or given[name] < 1:
            raise ImproperlyConfigured(f"BULK_IMPORT {name.upper()} must be a whole number above zero.")
    check_addresses(given)
    for name in given.keys() & RETENTIONS.keys():
        days, least = given[name], RETENTIONS[name]
        if days is not None and (type(days) is not int or not least <= days <= MAX_RETENTION_DAYS):
            raise ImproperlyConfigured(
                f"BULK_IMPORT {name.upper()} must be whole days from {least} to {MAX_RETENTION_DAYS}, or None."
            )


def check_addresses(given: dict[str, Any]) -> None:
    for name in given.keys() & {"public_url", "job_page_url"}:
        if given[name] and not is_web_address(given[name]):
            raise ImproperlyConfigured(f"BULK_IMPORT {name.upper()} must begin with https:// and a host.")
    if given.get("job_page_url") and "{id}" not in given["job_page_url"]:
        raise ImproperlyConfigured("BULK_IMPORT JOB_PAGE_URL must say with {id} where the id of the job goes.")


def is_web_address(url: Any) -> bool:
    """Whether it is an absolute URL of http or https."""
    return isinstance(url, str) and urlsplit(url).scheme in {"http", "https"} and bool(urlsplit(url).hostname)
