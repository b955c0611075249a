from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BulkImportConfig(AppConfig):
    name = "bulk_import"
    verbose_name = _("Bulk import")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from bulk_import import checks  # noqa: F401, PLC0415 - registers the checks, once the apps are there

        if find_spec("drf_spectacular"):
            from bulk_import.api import openapi  # noqa: F401, PLC0415 - registers the extension with drf-spectacular
