"""Settings for production. All values come from environment variables, and development secrets are refused.

If variables are missing or unsafe, a single ImproperlyConfigured lists all of them. REQUIRED lists the required
variables; the optional ones are below. boto3 finds the AWS credentials and region in its usual places.
"""

import os

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from settings import known_secrets
from settings.base import *  # noqa: F403 - the usual way to layer Django settings
from settings.base import BASE_DIR

REQUIRED = {
    "SECRET_KEY": "at least 50 random characters; signs sessions",
    "ALLOWED_HOSTS": "host names, separated by commas",
    "DATABASE_URL": "such as postgres://user:password@host/name",
    "BULK_IMPORT_QUEUE_URL": "URL of the SQS queue",
    "BULK_IMPORT_PAYLOADS_BUCKET": "bucket for the rows of imports",
    "BULK_IMPORT_FAILURES_BUCKET": "bucket for the rows that were not created",
    "BULK_IMPORT_WORKER_SECRETS": "at least 32 random characters; during a rotation several, separated by commas",
    "BULK_IMPORT_TOKEN_KEYS": "at least 32 random characters; during a rotation several, separated by commas",
    "BULK_IMPORT_PUBLIC_URL": "URL of this site for its users, such as https://shop.example",
    "DEFAULT_FROM_EMAIL": "sender address of emails",
    "EMAIL_HOST": "host name of the mail server",
}
MIN_CHARACTERS = {
    "SECRET_KEY": 50,
    "SECRET_KEY_FALLBACKS": 50,
    "BULK_IMPORT_WORKER_SECRETS": 32,
    "BULK_IMPORT_TOKEN_KEYS": 32,
    "BULK_IMPORT_WEBHOOK_SECRETS": 32,
    "BULK_IMPORT_METRICS_SECRETS": 32,
}
KNOWN_SECRETS = {value for name, value in vars(known_secrets).items() if name.isupper()}


def listed(name: str) -> list[str]:
    """Return the values of an environment variable that contains several, separated by commas."""
    return [value.strip() for value in os.environ.get(name, "").split(",") if value.strip()]


def find_problems() -> list[str]:
    """Return a message for each missing or unsafe variable. The messages never contain the value of a secret."""
    found = [f"{name} is missing: {meaning}" for name, meaning in REQUIRED.items() if not os.environ.get(name)]
    for name, characters in MIN_CHARACTERS.items():
        for secret in listed(name):
            if secret in KNOWN_SECRETS or secret.startswith("django-insecure-"):
                found.append(f"{name} is a public secret of the development settings")
            elif len(secret) < characters:
                found.append(f"{name} is shorter than {characters} characters")
    if "*" in listed("ALLOWED_HOSTS"):
        found.append("ALLOWED_HOSTS must list host names, not *")
    if not os.environ.get("BULK_IMPORT_PUBLIC_URL", "https://").startswith("https://"):
        found.append("BULK_IMPORT_PUBLIC_URL must start with https://")
    return found


if _problems := find_problems():
    raise ImproperlyConfigured("The environment is not ready for production:\n- " + "\n- ".join(_problems))

DEBUG = False
SECRET_KEY = os.environ["SECRET_KEY"].strip()
SECRET_KEY_FALLBACKS = listed("SECRET_KEY_FALLBACKS")  # previous keys, so that sessions survive a rotation
ALLOWED_HOSTS = listed("ALLOWED_HOSTS")
PUBLIC_URL = os.environ["BULK_IMPORT_PUBLIC_URL"].rstrip("/")

DATABASES = {"default": dj_database_url.config(conn_max_age=60, conn_health_checks=True)}  # seconds

# Throttles count in the cache, so all processes must share it. The table is created with manage.py createcachetable.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"}}
if os.environ.get("REDIS_URL"):
    CACHES["default"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["REDIS_URL"],
    }

SECURE_SSL_REDIRECT = True
if os.environ.get("TRUST_X_FORWARDED_PROTO") == "1":
    # Use this only behind a proxy that always sets the header itself. Otherwise clients could forge it.
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
            "detail_url": "products:product-detail",
            "rehearse": True,
            "lookup": "sku",
        },
    },
    "QUEUE_URL": os.environ["BULK_IMPORT_QUEUE_URL"],
    "WORKER_SECRETS": listed("BULK_IMPORT_WORKER_SECRETS"),
    "TOKEN_KEYS": listed("BULK_IMPORT_TOKEN_KEYS"),
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
    "filters": {"context": {"()": "bulk_import_wire.logs.LogContextFilter"}},
    "formatters": {"json": {"()": "bulk_import_wire.logs.JsonFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["context"], "formatter": "json"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"bulk_import": {"level": "INFO"}},
}
