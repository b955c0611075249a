"""Static files have hashed names, so the admin works only if collectstatic finds all of them."""

from django.contrib import admin
from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {
    "STORAGES": {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
}
CASE = {
    "url_name": "items",
    "commands": [["collectstatic", "--noinput", "-v0"]],
    "page": "/admin/bulk_import/importjob/",
}

urlpatterns = [path("admin/", admin.site.urls), path("items/", create_or_list, name="items")]
