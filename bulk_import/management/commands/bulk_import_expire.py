"""`manage.py bulk_import_expire`: delete what is kept of jobs that ended long ago. For cron, every day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from bulk_import.retention import expire_jobs

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Delete payloads, failures, ledger records and jobs whose retention is over. Twice is harmless."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what there is to delete")

    def handle(self, *, dry_run: bool, **_options: Any) -> None:
        deleted = expire_jobs(dry_run=dry_run)
        self.stdout.write(
            f"{'to delete' if dry_run else 'deleted'}: {deleted.payloads} payloads, "
            f"{deleted.failure_files} files of failures, {deleted.ledger_records} ledger records, {deleted.jobs} jobs"
        )
        if deleted.postponed:
            raise CommandError(f"S3 was not there for {deleted.postponed} jobs or more. Run this again.")
