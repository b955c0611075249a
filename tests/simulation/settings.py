"""Settings of the simulated site: an in-memory database, simulated S3, SQS and mail, and small chunks."""

from typing import Any

from settings import known_secrets

SECRET_KEY = known_secrets.SECRET_KEY
ALLOWED_HOSTS = ["shop.example"]
LOGGING_CONFIG = None
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.simulation.shop"
APPEND_SLASH = False  # otherwise Django resolves each path without a final slash twice

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "products",
    "bulk_import",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "bulk_import.middleware.ImportedRowMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

DATABASES = {
    "default": {
        "ENGINE": "tests.simulation.backend",
        "NAME": ":memory:",
        "CONN_MAX_AGE": None,  # a closed connection would lose the database
        # SQLite prepares a statement again that it has forgotten; the site has a few thousand.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "cached_statements": 10_000},
    },
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tests.simulation.surroundings.NameAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.DjangoModelPermissions"],
    "DEFAULT_THROTTLE_RATES": {"products": None},
}

PAYLOADS_BUCKET = "payloads"
FAILURES_BUCKET = "failures"
QUEUE_URL = "https://sqs.example/import"

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    **{
        f"bulk_import_{name}": {
            "BACKEND": "tests.simulation.surroundings.SimulatedS3Storage",
            "OPTIONS": {"bucket_name": name},
        }
        for name in (PAYLOADS_BUCKET, FAILURES_BUCKET)
    },
}

EMAIL_BACKEND = "tests.simulation.surroundings.SimulatedMail"
DEFAULT_FROM_EMAIL = "imports@shop.example"

BULK_IMPORT: dict[str, Any] = {
    "TARGETS": {
        "categories": {
            "create_url": "categories",
            "serializer": "tests.simulation.shop.CategorySerializer",
            "detail_url": "category",
            "lookup": "name",
            "rehearse": True,
        },
        "products": {
            "create_url": "products:product-list",
            "serializer": "products.serializers.ProductSerializer",
        },
    },
    "QUEUE_URL": QUEUE_URL,
    "WORKER_SECRETS": [known_secrets.WORKER_SECRET],
    "TOKEN_KEYS": [known_secrets.TOKEN_KEY],
    "WEBHOOK_URL": "https://receiver.example/",
    "WEBHOOK_SECRETS": [known_secrets.WEBHOOK_SECRET],
    "LEASE_SECONDS": 10,
    "PAUSE_SECONDS": 20,
    "MAX_PAUSE_HOURS": 1,
    "SUBMISSION_RATE": "100000/min",
    "MAX_OPEN_JOBS": 1000,
    "PUBLIC_URL": "https://shop.example",
    "JOB_PAGE_URL": "https://shop.example/imports/{id}",
}
