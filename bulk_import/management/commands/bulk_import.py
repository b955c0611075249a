"""`manage.py bulk_import FILE --target products --watch`: an import as the API takes it, from the command line."""

from __future__ import annotations

import getpass
import logging
import time
from argparse import RawDescriptionHelpFormatter
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from django.http import HttpRequest
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, Unavailable
from bulk_import.intake.accept import accept
from bulk_import.intake.formats import SUFFIXES
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.request_body import Upload, as_upload, too_large
from bulk_import.intake.validation import ValidationResult, validate_rows
from bulk_import.models import ImportJob, JobStatus
from bulk_import.reports.dry_run import BulkImportDryRunSerializer
from bulk_import.reports.job import eta_seconds, rows_per_second
from bulk_import.reports.messages import message
from bulk_import.reports.problems import error_text, problem_text

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from uuid import UUID

    from bulk_import.conf import Target

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1  # between two looks at the job
BAR_CHARACTERS = 30
LISTED_ERRORS = 20


class Exit(IntEnum):
    """What a script may rely on; 0 is the usual."""

    NOT_ALL_CREATED = 1
    REFUSED = 2  # as argparse's own for wrong arguments
    TROUBLE = 3
    INTERRUPTED = 130  # as shells say it


HELP = """
Import a file for a user: the same formats, checks, limits and quotas as the API's.

exit codes:
  0    accepted; with --watch: every row was created; with --dry-run: every row is valid
  1    with --watch: the import has ended, and not every row was created
  2    refused, nothing was imported: wrong arguments, a file that cannot be read, rows that are not valid,
       a user who may not create them, a quota
  3    trouble of our own, such as S3 or the database being away
  130  interrupted (Ctrl-C); an import that was accepted goes on

With --idempotency-key, running the command again is harmless: it is the same import, to be watched again.
"""


class Command(BaseCommand):
    help = HELP
    # A failing check would exit with 1, which means something else here.
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        targets = sorted(conf().targets)
        only = targets[0] if len(targets) == 1 else None
        parser.add_argument("file", type=Path, help="named *.json, *.jsonl, *.ndjson or *.csv")
        parser.add_argument(
            "--target", choices=targets, default=only, required=only is None, help="what the rows become"
        )
        parser.add_argument(
            "--user", help="who creates the rows, and must be allowed to; default: your login name here"
        )
        parser.add_argument("--on-invalid", choices=["reject", "skip"], default="reject", help="default: reject")
        parser.add_argument("--dry-run", action="store_true", help="only judge the rows")
        parser.add_argument("--watch", action="store_true", help="follow the import until it ends")
        parser.add_argument("--idempotency-key", metavar="KEY", help="the same key and file is the same import")

    def handle(self, **options: Any) -> None:
        try:
            self.run(**options)
        except CommandError:
            raise
        except BadImport as error:
            self.list_errors(error.extra.get("errors", []))
            raise CommandError(f"{error.message} ({error.code})", returncode=Exit.REFUSED) from error
        except APIException as error:  # of the create endpoint's permissions
            raise CommandError(str(error.detail), returncode=Exit.REFUSED) from error
        except Unavailable as error:
            raise CommandError(str(error), returncode=Exit.TROUBLE) from error
        except KeyboardInterrupt as error:
            raise CommandError("interrupted", returncode=Exit.INTERRUPTED) from error
        except Exception as error:
            logger.exception("The import was not made, or not watched to its end")
            raise CommandError(f"{type(error).__name__}: {error}", returncode=Exit.TROUBLE) from error

    def run(self, *, target: str, user: str | None, file: Path, on_invalid: str, **options: Any) -> None:
        goal = conf().target(target)
        request = request_of(user or getpass.getuser())
        goal.create_view(request).check_permissions(request)
        upload = read_file(file, f"on_invalid={on_invalid}")
        if options["dry_run"]:
            self.report_verdicts(validate_rows(goal, upload.rows, request))
            return
        job_id = self.submit(goal, request, upload, options["idempotency_key"], skip_invalid=on_invalid == "skip")
        self.stdout.write(f"{message(read_job(job_id))}\nJob {job_id}")
        if options["watch"]:
            self.report(self.watch(job_id))

    def submit(self, target: Target, request: Request, upload: Upload, key: str | None, *, skip_invalid: bool) -> UUID:
        """The id of the new job, or of the one that this key made before."""
        key = read_key(key)
        job = find_job(target, request.user, key, upload.sha256)
        return job.pk if job else accept(target, request, upload, idempotency_key=key, skip_invalid=skip_invalid)

    def report_verdicts(self, verdicts: ValidationResult) -> None:
        self.list_errors(verdicts.errors)
        text = BulkImportDryRunSerializer(verdicts).data["message"]
        if verdicts.invalid_rows:
            raise CommandError(text, returncode=Exit.REFUSED)
        self.stdout.write(text)

    def list_errors(self, errors: list[dict[str, Any]]) -> None:
        for error in errors[:LISTED_ERRORS]:
            where = f"line {error['line']}" if error.get("line") else f"index {error['index']}"
            self.stderr.write(f"{where}: {error_text(error)}")
        if len(errors) > LISTED_ERRORS:
            self.stderr.write("…")

    def watch(self, job_id: UUID) -> ImportJob:
        """Show how far it is until it ends: on a terminal in one line, else in a line for each change of status."""
        last_status = ""
        while True:
            job = read_job(job_id)
            if self.stdout.isatty():
                self.stdout.write(f"\r\x1b[K{progress(job)}", ending="")
                self.stdout.flush()
            elif job.status != last_status:
                self.stdout.write(progress(job))
            last_status = job.status
            if job.is_terminal:
                break
            close_old_connections()
            time.sleep(WATCH_SECONDS)
        if self.stdout.isatty():
            self.stdout.write("")
        return job

    def report(self, job: ImportJob) -> None:
        for problem in job.problems:
            self.stderr.write(str(problem_text(problem)))
        if job.status != JobStatus.SUCCEEDED:
            raise CommandError(message(job), returncode=Exit.NOT_ALL_CREATED)
        self.stdout.write(message(job))


def request_of(name: str) -> Request:
    """A request of that user, for what asks one: the target's permissions and its serializer."""
    model = get_user_model()
    try:
        user: Any = model._default_manager.get_by_natural_key(name)  # noqa: SLF001 - Django's documented name
    except model.DoesNotExist as error:
        raise CommandError(f"There is no user {name}.", returncode=Exit.REFUSED) from error
    if not user.is_active:
        raise CommandError(f"The user {name} is not active.", returncode=Exit.REFUSED)
    plain = HttpRequest()
    plain.method = "POST"
    request = Request(plain)
    request.user = user
    return request


def read_file(file: Path, query: str) -> Upload:
    """The rows of a file. Raises CommandError and BodyTooLarge."""
    media_type = SUFFIXES.get(file.suffix.lower())
    if media_type is None:
        raise CommandError(f"{file} is not named {', '.join(SUFFIXES)}.", returncode=Exit.REFUSED)
    try:
        if file.stat().st_size > conf().max_body_bytes:
            raise too_large()
        return as_upload(media_type, query, file.read_bytes())
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.", returncode=Exit.REFUSED) from error


def read_job(job_id: UUID) -> ImportJob:
    job: ImportJob = ImportJob.objects.for_reports().get(pk=job_id)
    return job


def progress(job: ImportJob) -> str:
    """One line: status, bar, rows by outcome, rate, time left."""
    done = job.rows - job.counts["pending"]
    filled = BAR_CHARACTERS * done // job.rows
    bar = "#" * filled + "." * (BAR_CHARACTERS - filled)
    outcomes = ", ".join(f"{rows} {outcome}" for outcome, rows in job.counts.items() if rows and outcome != "pending")
    parts = [f"{job.status:<12} [{bar}] {done}/{job.rows}", outcomes]
    if rate := rows_per_second(job):
        parts.append(f"{rate} rows/s")
    if seconds := eta_seconds(job):
        parts.append(f"{seconds} s left")
    return "  ".join(filter(None, parts))
