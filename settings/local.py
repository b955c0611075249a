"""Settings for a developer's machine: public passwords, SQLite, and S3 and SQS from a local server.

They cannot be deployed by accident. Django answers requests for loopback host names only, the database must be on this
machine, and S3 and SQS must be servers on this machine (AWS_ENDPOINT_URL; `make serve` starts one).
"""

import os
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from settings import known_secrets
from settings.base import *  # noqa: F403 - the usual way to layer Django settings
from settings.base import BASE_DIR, INSTALLED_APPS, REST_FRAMEWORK, SPECTACULAR_SETTINGS

LOOPBACK = ("localhost", "127.0.0.1", "::1")

DEBUG = True
SECRET_KEY = known_secrets.SECRET_KEY
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

# Serve the assets of the API's documentation page from this machine instead of a CDN.
INSTALLED_APPS = [*INSTALLED_APPS, "drf_spectacular_sidecar"]
SPECTACULAR_SETTINGS = {**SPECTACULAR_SETTINGS, "SWAGGER_UI_DIST": "SIDECAR", "SWAGGER_UI_FAVICON_HREF": "SIDECAR"}

REST_FRAMEWORK = {
    **REST_FRAMEWORK,
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "settings.authentication.QuietBasicAuthentication",
        *REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"],
    ],
}

# Basic authentication hashes the password with every request, so a slow hasher would slow down imports. The passwords
# are public anyway.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {
    "default": dj_database_url.config(
        default=f"sqlite:///{BASE_DIR / '.local' / 'db.sqlite3'}",
        conn_max_age=60,  # seconds; opening SQLite for every request would take as long as a create
    ),
}
_database_host = DATABASES["default"].get("HOST", "")
if not (_database_host in {"", *LOOPBACK} or _database_host.startswith("/")):  # a path is a Unix socket
    raise ImproperlyConfigured("settings.local accepts only a database on this machine. Check DATABASE_URL.")
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "timeout": 20,  # seconds to wait for another writer
        # Take the write lock at BEGIN. SQLite does not wait for the lock if a transaction has already read something.
        "transaction_mode": "IMMEDIATE",
    }

AWS_ENDPOINT_URL = os.environ.get("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
AWS_ENDPOINT_URL_S3 = os.environ.get("AWS_ENDPOINT_URL_S3", AWS_ENDPOINT_URL)
if not {urlsplit(AWS_ENDPOINT_URL).hostname, urlsplit(AWS_ENDPOINT_URL_S3).hostname} <= set(LOOPBACK):
    raise ImproperlyConfigured("settings.local accepts only S3 and SQS on this machine. Check AWS_ENDPOINT_URL.")

_local_s3 = {
    "endpoint_url": AWS_ENDPOINT_URL_S3,
    "region_name": "us-east-1",
    "access_key": "local",
    "secret_key": "local",
}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "bulk_import_payloads": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": "bulk-import-payloads", **_local_s3},
    },
    "bulk_import_failures": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": "bulk-import-failures", **_local_s3},
    },
}

PUBLIC_URL = os.environ.get("BULK_IMPORT_PUBLIC_URL", "http://localhost:8000")

BULK_IMPORT = {
    "TARGETS": {
        "products": {
            "create_url": "products:product-list",
            "serializer": "products.serializers.ProductSerializer",
            "detail_url": "products:product-detail",
            "rehearse": True,
            "lookup": "sku",
            "batch_rows": int(os.environ.get("BATCH_ROWS", "1")),
        },
    },
    "QUEUE_URL": f"{AWS_ENDPOINT_URL}/123456789012/bulk-import",
    "QUEUE_CLIENT": {
        "endpoint_url": AWS_ENDPOINT_URL,
        "region_name": "us-east-1",
        "aws_access_key_id": "local",
        "aws_secret_access_key": "local",
    },
    "WORKER_SECRETS": [known_secrets.WORKER_SECRET],
    "TOKEN_KEYS": [known_secrets.TOKEN_KEY],
    "WEBHOOK_URL": os.environ.get("WEBHOOK_URL", ""),  # a receiver on this machine
    "WEBHOOK_SECRETS": [known_secrets.WEBHOOK_SECRET],
    # Small chunks make progress visible. Short leases let another worker soon take over from one that was killed.
    "CHUNK_ROWS": 100,
    "LEASE_SECONDS": 20,
    "PAUSE_SECONDS": 3,
    "PUBLIC_URL": PUBLIC_URL,
    "JOB_PAGE_URL": PUBLIC_URL + "/{target}/import/?job={id}",
    "NOTIFY_DOMAINS": ["shop.example"],
    "SUBMISSION_RATE": "1000/min",  # in the browser tests, one user uploads far more often than a person can
}

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = os.environ.get("EMAIL_FILE_PATH", BASE_DIR / ".local" / "mail")
DEFAULT_FROM_EMAIL = "imports@localhost"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"bulk_import": {"handlers": ["console"], "level": "INFO"}},
}
