"""The ledger's records."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bulk_import.models.database import PrimaryManager


class ImportedRow(models.Model):
    """The ledger: one record per row whose create committed, written in the same transaction.

    Its unique constraint is what makes a row happen once; leases only save work.
    """

    job = models.ForeignKey(
        "bulk_import.ImportJob", on_delete=models.CASCADE, related_name="imported_rows", db_index=False
    )
    index = models.PositiveIntegerField(_("index"))
    body_sha256 = models.BinaryField(max_length=32)  # of the create call's body: a key names one row only
    object_id = models.CharField(_("object id"), max_length=64, blank=True)  # "id" of what was created
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = PrimaryManager()

    class Meta:
        verbose_name = _("imported row")
        verbose_name_plural = _("imported rows")
        constraints = [models.UniqueConstraint(fields=["job", "index"], name="bulk_import_row_once")]

    def __str__(self) -> str:
        return f"{self.job_id}:{self.index}"
