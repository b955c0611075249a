"""The items of the monoliths, and a log for side effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import models


class Item(models.Model):
    sku: Any = models.CharField(max_length=20, unique=True)
    name: Any = models.CharField(max_length=50)
    unit_price: Any = models.DecimalField(max_digits=8, decimal_places=2)
    seen: Any = models.CharField(max_length=200, default="", editable=False)  # what the view saw of the request

    objects: Any = models.Manager()

    def __str__(self) -> str:
        return str(self.sku)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuse an item by its name, so that every site has rows that only the endpoint refuses."""
        if self.name == "Forbidden":
            raise PermissionDenied
        if self.name == "Flaky" and not (tried := Path(f"tried-{self.sku}")).exists():
            tried.touch()
            raise RuntimeError("the shop's own bug")
        super().save(*args, **kwargs)


class LogEntry(models.Model):
    text: Any = models.CharField(max_length=50)

    objects: Any = models.Manager()

    def __str__(self) -> str:
        return str(self.text)
