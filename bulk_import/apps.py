from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from bulk_import.versions import check_versions

check_versions()  # before the models, which older versions cannot load


class BulkImportConfig(AppConfig):
    """The Django app. With drf-spectacular installed, its API is part of the site's OpenAPI schema."""

    name = "bulk_import"
    verbose_name = _("Bulk import")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from bulk_import import checks  # noqa: F401, PLC0415 - registers the checks; it needs the loaded apps

        if find_spec("drf_spectacular"):
            from bulk_import.api import openapi  # noqa: F401, PLC0415 - registers extensions with drf-spectacular, an optional package
