"""`manage.py bulk_import_expire`: delete the data of ended jobs whose retention period is over.

Run it from cron every day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from bulk_import.retention import expire_jobs

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Delete payloads, failures, ledger records and jobs whose retention period is over. Idempotent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only report what would be deleted")

    def handle(self, *, dry_run: bool, **_options: Any) -> None:
        deleted = expire_jobs(dry_run=dry_run)
        self.stdout.write(
            f"{'Would delete' if dry_run else 'Deleted'} {deleted.payloads} payloads, "
            f"{deleted.failure_files} failure files, {deleted.ledger_records} ledger records, {deleted.jobs} jobs."
        )
        if deleted.postponed:
            raise CommandError(f"S3 was unavailable for {deleted.postponed} jobs or more. Run this command again.")
