"""`manage.py bulk_import FILE --target products --watch`: import a file from the command line, as the API does."""

from __future__ import annotations

import getpass
import logging
import time
from argparse import RawDescriptionHelpFormatter
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from django.http import HttpRequest
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from bulk_import.api.reading_parameters import ReadingParameters, reading_options
from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, Unavailable
from bulk_import.intake.accept import accept, dry_run
from bulk_import.intake.formats import SUFFIXES
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.modes import check_may_import, check_supports
from bulk_import.intake.request_body import Upload, as_upload, file_too_large
from bulk_import.models import ImportJob, JobMode, JobStatus
from bulk_import.reports.dry_run import BulkImportDryRunSerializer
from bulk_import.reports.job import eta_seconds, rows_per_second
from bulk_import.reports.messages import message
from bulk_import.reports.problems import error_text, problem_text
from bulk_import_wire.contract import Outcome

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator
    from uuid import UUID

    from bulk_import.conf import Target
    from bulk_import.intake.spreadsheets.options import ReadingOptions
    from bulk_import.intake.validation_result import ValidationResult

logger = logging.getLogger(__name__)

POLL_SECONDS = 1
"""Pause between two reads of the job while --watch follows it."""

BAR_CHARACTERS = 30
"""Width of the progress bar."""

MAX_LISTED_ERRORS = 20
"""Maximum number of errors that are printed for a file. More would scroll the summary off the screen."""

REDRAW_LINE = "\r\x1b[K"
"""Moves a terminal's cursor to the start of the line, and clears the line."""


class Exit(IntEnum):
    """Exit codes on which scripts can rely, besides 0 for success."""

    NOT_ALL_CREATED = 1
    REFUSED = 2  # argparse exits with 2 for wrong arguments
    UNAVAILABLE = 3
    INTERRUPTED = 130  # what shells report for Ctrl-C


HELP = """
Import a file for a user, with the same formats, checks, limits and quotas as the API.

exit codes:
  0    the import was accepted; with --watch: every row was imported; with --dry-run: every row is valid;
       with --rehearse and --watch: every row would be imported
  1    with --watch: the import has ended, and not every row was imported
  2    the import was refused, and nothing was imported: wrong arguments, a file that cannot be read, invalid
       rows, a user without permission, or a quota
  3    an error on our side: for example, S3 or the database is not available
  130  interrupted (Ctrl-C); an import that was already accepted continues

With --idempotency-key, it is safe to run the command again: it finds the same import, and can watch it again.
"""


class Command(BaseCommand):
    help = HELP
    requires_system_checks = []  # a failing check exits with 1, which has another meaning here

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        targets = sorted(conf().targets)
        only = targets[0] if len(targets) == 1 else None
        parser.add_argument("file", type=Path, help=f"a file named {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
        parser.add_argument(
            "--target", choices=targets, default=only, required=only is None, help="target that creates the rows"
        )
        parser.add_argument(
            "--mode",
            choices=[JobMode.CREATE.value, JobMode.UPDATE.value, JobMode.UPSERT.value],
            default=JobMode.CREATE.value,
            help="create objects, update those that exist, or both: upsert (default: create)",
        )
        parser.add_argument("--user", help="the user who creates the rows (default: your login name on this machine)")
        parser.add_argument(
            "--on-invalid",
            choices=["reject", "skip"],
            default="reject",
            help="reject the whole file if a row is invalid, or skip invalid rows (default: reject)",
        )
        for name, field in ReadingParameters().fields.items():
            parser.add_argument(f"--{name}", metavar=name.upper(), help=f"as the API's parameter: {describe(field)}")
        parser.add_argument("--dry-run", action="store_true", help="only validate the rows")
        parser.add_argument(
            "--rehearse", action="store_true", help="try every row with the endpoint and roll it back; imports nothing"
        )
        parser.add_argument("--watch", action="store_true", help="show the progress until the import ends")
        parser.add_argument(
            "--idempotency-key", metavar="KEY", help="a second call with this key and file finds the same import"
        )

    def handle(self, **options: Any) -> None:
        """Run the command, and turn each error into its exit code."""
        try:
            self.run(**options)
        except CommandError:
            raise
        except BadImport as error:
            self.print_errors(error.extra.get("errors", []))
            raise CommandError(f"{error.message} ({error.code})", returncode=Exit.REFUSED) from error
        except APIException as error:  # raised by the create endpoint's permissions
            raise CommandError(str(error.detail), returncode=Exit.REFUSED) from error
        except Unavailable as error:
            raise CommandError(str(error), returncode=Exit.UNAVAILABLE) from error
        except KeyboardInterrupt as error:
            raise CommandError("Interrupted.", returncode=Exit.INTERRUPTED) from error
        except Exception as error:
            logger.exception("The command bulk_import failed")
            raise CommandError(f"{type(error).__name__}: {error}", returncode=Exit.UNAVAILABLE) from error

    def run(self, *, file: Path, user: str | None, on_invalid: str, **options: Any) -> None:
        """Check the permission, read the file, then validate or submit its rows."""
        target = conf().target(options["target"])
        request = request_of(user or getpass.getuser())
        mode, rehearse = options["mode"], options["rehearse"]
        check_supports(target, mode, rehearse=rehearse)
        check_may_import(target, request, mode)
        reading = {name: options[name] for name in map(str, ReadingParameters().fields) if options.get(name)}
        query = f"on_invalid={on_invalid}" + (f"&mode={mode}" if mode != JobMode.CREATE else "")
        query += ("&rehearse=true" if rehearse else "") + (f"&{urlencode(reading)}" if reading else "")
        upload = read_file(file, query, read_options(reading))
        if options["dry_run"]:
            self.print_validation(dry_run(target, request, upload, mode))
            return
        how: dict[str, Any] = {"mode": mode, "skip_invalid": on_invalid == "skip", "rehearsal": rehearse}
        job_id = submit(target, request, upload, options["idempotency_key"], **how)
        job = read_job(job_id)
        self.print_reading(job.reading)
        self.stdout.write(f"{message(job)}\nJob {job_id}")
        if options["watch"]:
            self.print_progress(job_id)
            self.print_result(read_job(job_id))

    def print_reading(self, reading: dict[str, Any]) -> None:
        """Print which columns were read under another name, which were ignored, and how values were interpreted."""
        for column in reading.get("columns", []):
            if column["match"] != "exact":
                self.stdout.write(f"column {column['column']}: read as {column['field']}")
        for value in reading.get("values", []):
            self.stdout.write(f"{value['field']}: {value['from']} is read as {value['to']}")
        for name in reading.get("ignored", []):
            self.stdout.write(f"{name}: ignored, because there is no such field")
        for name in reading.get("missing", []):
            self.stdout.write(f"{name}: required, but there is no such column")

    def print_validation(self, result: ValidationResult) -> None:
        self.print_reading(result.reading)
        self.print_errors(result.errors)
        text = BulkImportDryRunSerializer(result).data["message"]
        if result.invalid_rows:
            raise CommandError(text, returncode=Exit.REFUSED)
        self.stdout.write(text)

    def print_errors(self, errors: list[dict[str, Any]]) -> None:
        for error in errors[:MAX_LISTED_ERRORS]:
            where = f"line {error['line']}" if error.get("line") else f"index {error['index']}"
            self.stderr.write(f"{where}: {error_text(error)}")
        if len(errors) > MAX_LISTED_ERRORS:
            self.stderr.write("…")

    def print_progress(self, job_id: UUID) -> None:
        """Print the progress until the job ends.

        A terminal gets one line, which is redrawn. A file or a pipe gets one line for each change of status.
        """
        is_terminal = self.stdout.isatty()
        last_status = ""
        for job in follow(job_id):
            if is_terminal:
                self.stdout.write(f"{REDRAW_LINE}{progress_line(job)}", ending="")
                self.stdout.flush()
            elif job.status != last_status:
                self.stdout.write(progress_line(job))
            last_status = job.status
        if is_terminal:
            self.stdout.write("")  # ends the line that was redrawn

    def print_result(self, job: ImportJob) -> None:
        """Print the problems and the outcome of an ended job. Raises CommandError if not every row was created."""
        for problem in job.problems:
            self.stderr.write(str(problem_text(problem)))
        if job.status != JobStatus.SUCCEEDED:
            raise CommandError(message(job), returncode=Exit.NOT_ALL_CREATED)
        self.stdout.write(message(job))


def request_of(name: str) -> Request:
    """Return a request from this user, for the target's permissions and serializer.

    Raises CommandError if the user does not exist or is not active.
    """
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


def describe(field: Any) -> str:
    """Return the help for a parameter: its text, or its choices."""
    return str(field.help_text or ", ".join(f"{value} ({text})" for value, text in field.choices.items()))


def read_options(reading: dict[str, str]) -> ReadingOptions:
    """Return the options about the file. Raises CommandError for a value that the API does not accept."""
    parameters = ReadingParameters(data=reading)
    if not parameters.is_valid():
        name, errors = next(iter(parameters.errors.items()))
        raise CommandError(f"argument --{name}: {errors[0]}", returncode=Exit.REFUSED)
    return reading_options(parameters.validated_data)


def read_file(file: Path, query: str, options: ReadingOptions) -> Upload:
    """Read a file. Raises CommandError, and BadImport if the file is too large or no table."""
    media_type = SUFFIXES.get(file.suffix.lower())
    if media_type is None:
        raise CommandError(f"The name of {file} must end in one of {', '.join(SUFFIXES)}.", returncode=Exit.REFUSED)
    try:
        if file.stat().st_size > conf().max_body_bytes:
            raise file_too_large()
        return as_upload(media_type, query, file.read_bytes(), options)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.", returncode=Exit.REFUSED) from error


def submit(target: Target, request: Request, upload: Upload, key: str | None, **how: Any) -> UUID:
    """Return the ID of the new job, or of the job that was created earlier with the same Idempotency-Key.

    `how` are further arguments of `accept`.
    """
    key = read_key(key)
    job = find_job(target, request.user, key, upload.sha256)
    return job.pk if job else accept(target, request, upload, idempotency_key=key, **how)


def read_job(job_id: UUID) -> ImportJob:
    job: ImportJob = ImportJob.objects.for_reports().get(pk=job_id)
    return job


def follow(job_id: UUID) -> Iterator[ImportJob]:
    """Yield the job every POLL_SECONDS until it has ended. The last job that is yielded has ended."""
    while True:
        job = read_job(job_id)
        yield job
        if job.is_terminal:
            return
        # Django replaces broken connections between requests. A command has no requests, so it does this itself.
        close_old_connections()
        time.sleep(POLL_SECONDS)


def progress_line(job: ImportJob) -> str:
    """Return the status, a bar, the rows by outcome, the rate and the remaining time in one line."""
    bar = "#" * (BAR_CHARACTERS * job.finished_rows // job.rows)
    outcomes = ", ".join(f"{job.counts[outcome]} {outcome}" for outcome in Outcome if job.counts[outcome])
    parts = [f"{job.status:<12} [{bar:.<{BAR_CHARACTERS}}] {job.finished_rows}/{job.rows}", outcomes]
    if rate := rows_per_second(job):
        parts.append(f"{rate} rows/s")
    if seconds := eta_seconds(job):
        parts.append(f"{seconds} s left")
    return "  ".join(filter(None, parts))
