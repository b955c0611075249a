"""Which database has this app's tables."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models, router


def database() -> str:
    """Return the alias of the database that this app writes to.

    The app also reads from this database, and never from a replica, because a replica may not have the last commit yet.
    For example, a worker has just claimed a chunk, but the replica still shows the chunk as free.
    """
    return router.db_for_write(apps.get_model("bulk_import", "ImportedRow"))


class PrimaryManager(models.Manager[Any]):
    """A manager that reads from the database that it writes to."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(database())
