"""`manage.py bulk_import_redrive JOB`: run the dead-lettered chunks of a job again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from bulk_import.exceptions import Expired, SentAgain
from bulk_import.models import ImportJob
from bulk_import.operations import redrive

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Run the dead-lettered chunks of a job again. Fix the cause first. Idempotent: a second call has no effect "
        "while the chunks run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", type=UUID, help="ID of the job")

    def handle(self, *, job: UUID, **_options: Any) -> None:
        try:
            chunks = redrive(ImportJob.objects.get(pk=job))
        except ImportJob.DoesNotExist as error:
            raise CommandError(f"There is no job {job}.") from error
        except (Expired, SentAgain) as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{chunks} chunks redriven")
