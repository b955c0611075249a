"""Settings for deployment: everything comes from the environment, and nothing that is known from development.

Each variable that is missing or cannot be meant is named in one ImproperlyConfigured; see REQUIRED and the
optional ones below. AWS's credentials and region come from where boto3 finds them.
"""

import os

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from settings import known_secrets
from settings.base import *  # noqa: F403 - the usual way to layer Django settings
from settings.base import BASE_DIR

REQUIRED = {
    "SECRET_KEY": "at least 50 random characters; it signs sessions and the import's tokens",
    "ALLOWED_HOSTS": "host names, separated by commas",
    "DATABASE_URL": "such as postgres://user:password@host/name",
    "BULK_IMPORT_QUEUE_URL": "URL of the SQS queue",
    "BULK_IMPORT_PAYLOADS_BUCKET": "bucket of the rows",
    "BULK_IMPORT_FAILURES_BUCKET": "bucket of the rows that were not created",
    "BULK_IMPORT_WORKER_SECRETS": "at least 32 random characters; several, separated by commas, while they rotate",
    "BULK_IMPORT_PUBLIC_URL": "where people reach this site, such as https://shop.example",
    "DEFAULT_FROM_EMAIL": "whom mails come from",
    "EMAIL_HOST": "the mail server",
}
MIN_CHARACTERS = {
    "SECRET_KEY": 50,
    "SECRET_KEY_FALLBACKS": 50,
    "BULK_IMPORT_WORKER_SECRETS": 32,
    "BULK_IMPORT_WEBHOOK_SECRETS": 32,
    "BULK_IMPORT_METRICS_SECRETS": 32,
}
KNOWN_SECRETS = {value for name, value in vars(known_secrets).items() if name.isupper()}


def listed(name: str) -> list[str]:
    """The values of a variable that holds several, separated by commas."""
    return [value.strip() for value in os.environ.get(name, "").split(",") if value.strip()]


def faults() -> list[str]:
    """What is wrong with the environment. Never the value of a secret."""
    found = [f"{name} is missing: {meaning}" for name, meaning in REQUIRED.items() if not os.environ.get(name)]
    for name, characters in MIN_CHARACTERS.items():
        for secret in listed(name):
            if secret in KNOWN_SECRETS or secret.startswith("django-insecure-"):
                found.append(f"{name} is one of development, which everybody knows")
            elif len(secret) < characters:
                found.append(f"{name} is shorter than {characters} characters")
    if "*" in listed("ALLOWED_HOSTS"):
        found.append("ALLOWED_HOSTS must name the hosts, not *")
    if not os.environ.get("BULK_IMPORT_PUBLIC_URL", "https://").startswith("https://"):
        found.append("BULK_IMPORT_PUBLIC_URL must begin with https://")
    return found


if _faults := faults():
    raise ImproperlyConfigured("The environment is not fit for production:\n- " + "\n- ".join(_faults))

DEBUG = False
SECRET_KEY = os.environ["SECRET_KEY"].strip()
SECRET_KEY_FALLBACKS = listed("SECRET_KEY_FALLBACKS")  # while it rotates: running imports go on
ALLOWED_HOSTS = listed("ALLOWED_HOSTS")
PUBLIC_URL = os.environ["BULK_IMPORT_PUBLIC_URL"].rstrip("/")

DATABASES = {"default": dj_database_url.config(conn_max_age=60, conn_health_checks=True)}  # seconds

SECURE_SSL_REDIRECT = True
if os.environ.get("TRUST_X_FORWARDED_PROTO") == "1":
    # Only behind a proxy that sets this header itself, whatever a client sends.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000  # a year
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

STATIC_ROOT = os.environ.get("STATIC_ROOT", BASE_DIR / "static")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    **{
        f"bulk_import_{kind}": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {"bucket_name": os.environ[f"BULK_IMPORT_{kind.upper()}_BUCKET"]},
        }
        for kind in ("payloads", "failures")
    },
}

BULK_IMPORT = {
    "TARGETS": {
        "products": {
            "create_url": "products:product-list",
            "serializer": "products.serializers.ProductSerializer",
        },
    },
    "QUEUE_URL": os.environ["BULK_IMPORT_QUEUE_URL"],
    "WORKER_SECRETS": listed("BULK_IMPORT_WORKER_SECRETS"),
    "PUBLIC_URL": PUBLIC_URL,
    "JOB_PAGE_URL": PUBLIC_URL + "/{target}/import/?job={id}",
    "WEBHOOK_URL": os.environ.get("BULK_IMPORT_WEBHOOK_URL", ""),
    "WEBHOOK_SECRETS": listed("BULK_IMPORT_WEBHOOK_SECRETS"),
    "METRICS_SECRETS": listed("BULK_IMPORT_METRICS_SECRETS"),
    "NOTIFY_DOMAINS": listed("BULK_IMPORT_NOTIFY_DOMAINS"),
}

DEFAULT_FROM_EMAIL = os.environ["DEFAULT_FROM_EMAIL"]
EMAIL_HOST = os.environ["EMAIL_HOST"]
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "587"))
EMAIL_HOST_USER = os.environ.get("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = os.environ.get("EMAIL_USE_TLS", "true").lower() != "false"
EMAIL_TIMEOUT = 10  # seconds

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"about": {"()": "bulk_import_wire.logs.LogContextFilter"}},
    "formatters": {"json": {"()": "bulk_import_wire.logs.JsonFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["about"], "formatter": "json"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"bulk_import": {"level": "INFO"}},
}
