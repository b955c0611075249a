"""Where this app's tables are."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models, router


def database() -> str:
    """The alias that this app writes to, and also reads from: a replica may lag behind what was just written."""
    return router.db_for_write(apps.get_model("bulk_import", "ImportedRow"))


class PrimaryManager(models.Manager[Any]):
    """Reads from where it writes."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(database())
