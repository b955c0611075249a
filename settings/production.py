"""Settings for a deployment. Each value that differs between deployments is an environment variable.

Nothing starts while a variable is missing, or while a secret is one that everybody knows. `manage.py check --deploy`
has nothing to say about these settings; `manage.py bulk_import_doctor` tries what they name.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from settings import known_secrets
from settings.base import *  # noqa: F403 - the usual way to layer Django settings
from settings.base import BASE_DIR

REQUIRED = {
    "SECRET_KEY": "50 random characters or more, this deployment's own",
    "ALLOWED_HOSTS": "the host names that are served, with commas between: shop.example,www.shop.example",
    "PUBLIC_URL": "where people reach the monolith: https://shop.example",
    "DATABASE_URL": "postgres://user:password@host/name?sslmode=require",
    "AWS_DEFAULT_REGION": "of the buckets and the queue: eu-west-1",
    "BULK_IMPORT_QUEUE_URL": "the SQS queue of the worker",
    "BULK_IMPORT_PAYLOADS_BUCKET": "the S3 bucket that imports are stored in",
    "BULK_IMPORT_FAILURES_BUCKET": "the S3 bucket that the worker writes failures to",
    "BULK_IMPORT_WORKER_SECRETS": "32 random characters or more; two, with a comma between, while it is replaced",
    "EMAIL_HOST": "the mail server",
    "DEFAULT_FROM_EMAIL": "the sender of the mails",
}
"""Beside these: SECRET_KEY_FALLBACKS, CSRF_TRUSTED_ORIGINS, TRUST_X_FORWARDED_PROTO, STATIC_ROOT, LOG_LEVEL,
EMAIL_PORT, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD, BULK_IMPORT_WEBHOOK_URL and BULK_IMPORT_WEBHOOK_SECRETS, and boto3's
own."""

MIN_SECRET_KEY_CHARACTERS = 50  # Django's own advice (security.W009)
MIN_WORKER_SECRET_CHARACTERS = 32  # as bulk_import.checks has it

if missing := [f"{name} ({meaning})" for name, meaning in REQUIRED.items() if not os.environ.get(name)]:
    raise ImproperlyConfigured("Set " + ", ".join(missing))


def _listed(name: str) -> list[str]:
    """The values of a variable that holds several, with commas between."""
    return [value.strip() for value in os.environ.get(name, "").split(",") if value.strip()]


def _expect_secrets(name: str, secrets: list[str], least: int) -> None:
    """Raises ImproperlyConfigured for a secret that others know or can guess. It never says the secret."""
    known = {value for key, value in vars(known_secrets).items() if key.isupper()}
    if any(secret in known or secret.startswith("django-insecure-") for secret in secrets):
        raise ImproperlyConfigured(f"{name} holds a secret for development, which everybody knows. Make another one.")
    if not secrets or any(len(secret) < least for secret in secrets):
        raise ImproperlyConfigured(f"{name} needs {least} random characters or more.")


DEBUG = False
SECRET_KEY = os.environ["SECRET_KEY"]
SECRET_KEY_FALLBACKS = _listed("SECRET_KEY_FALLBACKS")
WORKER_SECRETS = _listed("BULK_IMPORT_WORKER_SECRETS")
WEBHOOK_SECRETS = _listed("BULK_IMPORT_WEBHOOK_SECRETS")
_expect_secrets("SECRET_KEY", [SECRET_KEY], MIN_SECRET_KEY_CHARACTERS)
_expect_secrets("SECRET_KEY_FALLBACKS", [SECRET_KEY, *SECRET_KEY_FALLBACKS], MIN_SECRET_KEY_CHARACTERS)
_expect_secrets("BULK_IMPORT_WORKER_SECRETS", WORKER_SECRETS, MIN_WORKER_SECRET_CHARACTERS)
if WEBHOOK_SECRETS:
    _expect_secrets("BULK_IMPORT_WEBHOOK_SECRETS", WEBHOOK_SECRETS, MIN_WORKER_SECRET_CHARACTERS)

ALLOWED_HOSTS = _listed("ALLOWED_HOSTS")
if "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must name the hosts: whoever may choose the host chooses the links.")
PUBLIC_URL = os.environ["PUBLIC_URL"].rstrip("/")
if urlsplit(PUBLIC_URL).scheme != "https":
    raise ImproperlyConfigured("PUBLIC_URL must begin with https://")

# HTTPS only: passwords, import tokens and rows cross the network.
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60  # a year, the least that browsers' preload lists take
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
CSRF_TRUSTED_ORIGINS = _listed("CSRF_TRUSTED_ORIGINS")
if os.environ.get("TRUST_X_FORWARDED_PROTO") == "1":
    # Only behind a proxy that sets this header itself, whatever a client sends.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

DATABASES = {
    "default": dj_database_url.parse(
        os.environ["DATABASE_URL"],
        conn_max_age=60,  # seconds
        conn_health_checks=True,
    ),
}
if DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
    raise ImproperlyConfigured("DATABASE_URL must be PostgreSQL's: postgres://user:password@host/name")

# Region, credentials and, for other servers than AWS's, AWS_ENDPOINT_URL are read by boto3 itself.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},  # the stand-in stores no files
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    "bulk_import_payloads": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": os.environ["BULK_IMPORT_PAYLOADS_BUCKET"]},
    },
    "bulk_import_failures": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": os.environ["BULK_IMPORT_FAILURES_BUCKET"]},
    },
}
STATIC_ROOT = Path(os.environ.get("STATIC_ROOT", BASE_DIR / "static"))  # for `manage.py collectstatic`

BULK_IMPORT = {
    "TARGETS": {
        "products": {
            "create_url": "products:product-list",
            "serializer": "products.serializers.ProductSerializer",
        },
    },
    "QUEUE_URL": os.environ["BULK_IMPORT_QUEUE_URL"],
    "WORKER_SECRETS": WORKER_SECRETS,
    "WEBHOOK_URL": os.environ.get("BULK_IMPORT_WEBHOOK_URL", ""),
    "WEBHOOK_SECRETS": WEBHOOK_SECRETS,
    "PUBLIC_URL": PUBLIC_URL,
    "JOB_PAGE_URL": PUBLIC_URL + "/{target}/import/?job={id}",
}

EMAIL_HOST = os.environ["EMAIL_HOST"]
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "587"))
EMAIL_HOST_USER = os.environ.get("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = True
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = os.environ["DEFAULT_FROM_EMAIL"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"bulk_import": {"level": os.environ.get("LOG_LEVEL", "INFO")}},
}
