"""Makes a new site in a folder, with the package that is installed for this Python, and checks that it starts.

The release workflow and `make matrix` run this file with the Python of an environment in which only the wheel or the
sdist is installed. It needs nothing else of this project:

    python tests/new_site.py FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SETTINGS = """
INSTALLED_APPS += ["rest_framework", "bulk_import"]
MIDDLEWARE += ["bulk_import.middleware.ImportedRowMiddleware"]
DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}
if "MAILERS" not in globals():  # a new project of Django 6.1 has it instead of the EMAIL settings
    EMAIL_TIMEOUT = 10
S3 = "storages.backends.s3.S3Storage"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "bulk_import_payloads": {"BACKEND": S3, "OPTIONS": {"bucket_name": "payloads"}},
    "bulk_import_failures": {"BACKEND": S3, "OPTIONS": {"bucket_name": "failures"}},
}
BULK_IMPORT = {
    "TARGETS": {"groups": {"create_url": "group-list", "serializer": "shop.urls.GroupSerializer"}},
    "QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/chunks",
    "WORKER_SECRETS": ["for-a-test-only-0123456789-abcdefghijklmnop"],
    "TOKEN_KEYS": ["for-a-test-only-9876543210-abcdefghijklmnop"],
    "PUBLIC_URL": "https://shop.example",
}
"""

URLS = """
from django.contrib.auth.models import Group
from django.urls import include, path
from rest_framework import routers, serializers, viewsets


class GroupSerializer(serializers.ModelSerializer):
    class Meta:
        model = Group
        fields = ["id", "name"]


class GroupViewSet(viewsets.ModelViewSet):
    queryset = Group.objects.all()
    serializer_class = GroupSerializer


router = routers.DefaultRouter()
router.register("groups", GroupViewSet)
urlpatterns = [
    path("groups/bulk", include("bulk_import.urls"), {"target": "groups"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("", include(router.urls)),
]
"""

INSTALLED = "import bulk_import, lambda_worker.handler, sys; sys.exit(not bulk_import.__file__.startswith(sys.prefix))"
"""Fails if the site imports this project's folder instead of the installed package, or the worker lacks a package."""

COMMANDS = (
    ("-c", INSTALLED),
    ("manage.py", "check", "--fail-level", "WARNING"),
    ("manage.py", "makemigrations", "--check", "--dry-run"),
    ("manage.py", "migrate", "-v", "0"),
    ("manage.py", "bulk_import", "--help"),
    ("manage.py", "bulk_import_init", "group-list"),
)


def make_site(folder: Path) -> None:
    """Write a project with one create endpoint into the folder, which must exist."""
    run(folder, "-m", "django", "startproject", "shop", ".")
    with (folder / "shop" / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    (folder / "shop" / "urls.py").write_text(URLS, encoding="utf-8")


def run(folder: Path, *arguments: str) -> None:
    """Run Python in the folder. Raises CalledProcessError; what the command printed is on the terminal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    make_site(folder)
    for command in COMMANDS:
        run(folder, *command)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
