"""`manage.py bulk_import FILE --target products --watch`: import a file from the command line, as the API does.

`bulk_import run ID` imports the rows of a rehearsal, and `bulk_import undo ID` deletes what an import created.
"""

from __future__ import annotations

import logging
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import APIException

from bulk_import.api.parameters import job_mode
from bulk_import.api.reading_parameters import ReadingParameters
from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, Unavailable
from bulk_import.intake.accept import accept, dry_run
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.modes import check_may_import, check_supports
from bulk_import.intake.run import run
from bulk_import.intake.undo import undo
from bulk_import.management.arguments import Exit, describe, find_job_of, read_file, read_options, request_of
from bulk_import.management.progress import follow, progress_line, read_job
from bulk_import.models import ON_EXISTING, ImportJob, JobMode, JobStatus
from bulk_import.reports.dry_run import BulkImportDryRunSerializer
from bulk_import.reports.messages import imports_ahead, message
from bulk_import.reports.problems import error_text, problem_text

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from uuid import UUID

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.request_body import Upload
    from bulk_import.intake.validation_result import ValidationResult

logger = logging.getLogger(__name__)

MAX_LISTED_ERRORS = 20
"""Maximum number of errors that are printed for a file. More would scroll the summary off the screen."""

REDRAW_LINE = "\r\x1b[K"
"""Moves a terminal's cursor to the start of the line, and clears the line."""


SKIP_HINT = " To import the valid rows without the others, pass --on-invalid skip."

DOCTOR_HINT = "manage.py bulk_import_doctor says what to change."

WAITING_POLLS = 15
"""Number of polls, a second apart, after which a job that no worker has started is probably waiting for one."""

WAITING_HINT = (
    "No worker has started this import yet. Either none is running (on your machine: manage.py bulk_import_local), or "
    "none reaches the site: its log and “python -m lambda_worker --probe USER” say why. The import waits for a worker, "
    "also if you interrupt this command."
)

ACTIONS = ("run", "undo")
"""Arguments that name an action on a job. For a file with such a name, write `./run`."""

OPTIONS_OF_FILES = {
    "mode": JobMode.CREATE.value,
    "on_existing": None,
    "host": "",
    "on_invalid": "reject",
    "dry_run": False,
    "idempotency_key": None,
}
"""Options that have no effect on the ACTIONS, with their defaults."""


HELP = """
Import a file for a user, with the same formats, checks, limits and quotas as the API.

  bulk_import FILE      imports the file
  bulk_import run ID    imports the rows of a rehearsal, which you do not send again
  bulk_import undo ID   deletes what an import created, unless it has changed since; --rehearse only tries it

exit codes:
  0    the import was accepted; with --watch: every row was imported; with --dry-run: every row is valid;
       with --rehearse and --watch: every row would be imported; with undo: every object was deleted
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
        parser.add_argument("file", help="a spreadsheet, CSV, JSON or JSON Lines; or: run, undo")
        parser.add_argument("id", nargs="?", help="with run: the rehearsal; with undo: the import")
        parser.add_argument("--target", choices=targets, default=only, help="target that creates the rows of the file")
        parser.add_argument(
            "--mode",
            choices=[JobMode.CREATE.value, JobMode.UPDATE.value, JobMode.UPSERT.value],
            default=JobMode.CREATE.value,
            help="create objects, update those that exist, or both: upsert (default: create)",
        )
        parser.add_argument(
            "--on-existing",
            choices=list(ON_EXISTING.values()),
            help="with --mode upsert: change objects that exist, skip their rows, or refuse the file (default: update)",
        )
        parser.add_argument("--user", help="the user who creates the rows (default: your login name on this machine)")
        parser.add_argument("--host", default="", help="host of the site, if it chooses the tenant of the rows")
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
            job_id = self.act_on_job(**options) if options["file"] in ACTIONS else self.import_file(**options)
            if job_id:
                job = read_job(job_id)
                self.print_reading(job.reading)
                self.stdout.write(f"{message(job)}\nJob {job_id}")
            if job_id and options["watch"]:
                self.print_progress(job_id)
                self.print_result(read_job(job_id))
        except CommandError:
            raise
        except BadImport as error:
            self.print_errors(error.extra.get("errors", []))
            hint = SKIP_HINT if error.code == "invalid_rows" and options["on_invalid"] == "reject" else ""
            raise CommandError(f"{error.message} ({error.code}){hint}", returncode=Exit.REFUSED) from error
        except APIException as error:  # raised by the create endpoint's permissions
            raise CommandError(str(error.detail), returncode=Exit.REFUSED) from error
        except Unavailable as error:
            raise CommandError(f"{error} {DOCTOR_HINT}", returncode=Exit.UNAVAILABLE) from error
        except KeyboardInterrupt as error:
            raise CommandError("Interrupted.", returncode=Exit.INTERRUPTED) from error
        except Exception as error:
            logger.exception("The command bulk_import failed")
            text = f"{type(error).__name__}: {error}. {DOCTOR_HINT}"
            raise CommandError(text, returncode=Exit.UNAVAILABLE) from error

    def import_file(self, *, file: str, user: str | None, on_invalid: str, **options: Any) -> UUID | None:
        """Check the permission, read the file, then validate or submit its rows.

        Returns the ID of the job; None after a dry run.
        """
        if options["id"] or not options["target"]:
            problem = f"unexpected argument: {options['id']}" if options["id"] else "--target is missing"
            raise CommandError(f"{problem}. See --help.", returncode=Exit.REFUSED)
        target = conf().target(options["target"])
        request = request_of(user, options["host"])
        on_existing, rehearse = options["on_existing"], options["rehearse"]
        if on_existing and options["mode"] != JobMode.UPSERT:
            raise CommandError("--on-existing needs --mode upsert. See --help.", returncode=Exit.REFUSED)
        mode = job_mode({"mode": options["mode"], "on_existing": on_existing})
        check_supports(target, mode, rehearse=rehearse)
        check_may_import(target, request, mode)
        reading = {name: options[name] for name in map(str, ReadingParameters().fields) if options.get(name)}
        query = f"on_invalid={on_invalid}" + (f"&mode={mode}" if mode != JobMode.CREATE else "")
        query += (f"&host={options['host']}" if options["host"] else "") + ("&rehearse=true" if rehearse else "")
        query += f"&{urlencode(reading)}" if reading else ""
        upload = read_file(Path(file), query, read_options(reading))
        if options["dry_run"]:
            self.print_validation(dry_run(target, request, upload, mode))
            return None
        how: dict[str, Any] = {"mode": mode, "skip_invalid": on_invalid == "skip", "rehearsal": rehearse}
        return submit(target, request, upload, options["idempotency_key"], **how)

    def act_on_job(self, *, file: str, user: str | None, **options: Any) -> UUID:
        """Run a rehearsal or undo an import of the user, and return the ID of the new job."""
        defaults = {**OPTIONS_OF_FILES, **dict.fromkeys(ReadingParameters().fields)}
        without_effect = [name for name, default in defaults.items() if options[name] != default]
        if file == "run" and options["rehearse"]:
            without_effect.append("rehearse")
        if without_effect:
            name = without_effect[0].replace("_", "-")
            raise CommandError(f"--{name} cannot be used with {file}. See --help.", returncode=Exit.REFUSED)
        request = request_of(user)
        job = find_job_of(request.user, options["id"])
        target = conf().target(job.target)
        if file == "run":
            check_may_import(target, request, job.mode)
            return run(job)
        check_supports(target, JobMode.UNDO, rehearse=options["rehearse"])
        check_may_import(target, request, JobMode.UNDO)
        return undo(target, job, rehearsal=options["rehearse"])

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
        for polls, job in enumerate(follow(job_id)):
            if polls == WAITING_POLLS and job.status == JobStatus.QUEUED and not imports_ahead(job):
                self.stderr.write(f"\n{WAITING_HINT}" if is_terminal else WAITING_HINT)
            if is_terminal:
                self.stdout.write(f"{REDRAW_LINE}{progress_line(job)}", ending="")
                self.stdout.flush()
            elif job.status != last_status:
                self.stdout.write(progress_line(job))
            if job.status == JobStatus.PAUSED != last_status:
                self.stderr.write(f"\n{message(job)}" if is_terminal else message(job))
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


def submit(target: Target, request: Request, upload: Upload, key: str | None, **how: Any) -> UUID:
    """Return the ID of the new job, or of the job that was created earlier with the same Idempotency-Key.

    `how` are further arguments of `accept`.
    """
    key = read_key(key)
    job = find_job(target, request.user, key, upload.sha256) if key else None
    return (job or accept(target, request, upload, idempotency_key=key, **how)).pk
