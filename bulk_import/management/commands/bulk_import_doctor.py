"""`manage.py bulk_import_doctor`: check that imports can work, and say how to fix what fails."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from bulk_import.conf import conf
from bulk_import.doctor import Level, examine
from bulk_import.management.quiet import quiet_clients

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from bulk_import.doctor import Finding


class Command(BaseCommand):
    help = (
        "Check the buckets, queues, database, secret, clocks and worker API by making the calls that an import makes. "
        "Exits with 1 if imports would fail."
    )
    requires_system_checks = []  # do not stop at a failed check: the doctor reports it as a finding

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--base-url",
            default="",
            help="URL under which the worker reaches the monolith; needed to check the worker API",
        )
        parser.add_argument(
            "--function-timeout",
            type=int,
            default=300,
            metavar="SECONDS",
            help="timeout of the Lambda function or of the poller (default: 300)",
        )
        parser.add_argument(
            "--user",
            default="",
            metavar="NAME",
            help="try a row of each target as this user, over HTTP. What the site writes to databases is rolled back, "
            "but emails that the view sends are sent",
        )
        parser.add_argument(
            "--row",
            action="append",
            default=[],
            metavar="[TARGET=]FILE",
            help="JSON file with the row to try; can be repeated. By default, a row is generated from the serializer",
        )
        parser.add_argument(
            "--host",
            default="",
            help="host under which the user reaches the site, if it chooses the tenant (default: that of PUBLIC_URL)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")

    def handle(self, *, base_url: str, function_timeout: int, **options: Any) -> None:
        quiet_clients(options["verbosity"])
        findings = list(
            examine(base_url, function_timeout, options["user"], read_rows(options["row"]), options["host"])
        )
        is_ok = not any(finding.level == Level.ERROR for finding in findings)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": is_ok, "findings": [asdict(finding) for finding in findings]}))
        else:
            for finding in findings:
                self.stdout.write(self.describe(finding))
        if not is_ok:
            sys.exit(1)

    def describe(self, finding: Finding) -> str:
        style = {Level.OK: self.style.SUCCESS, Level.WARNING: self.style.WARNING, Level.ERROR: self.style.ERROR}
        level = f"{finding.level:8}"
        return style[finding.level](level) + str(finding).removeprefix(level)


def read_rows(arguments: list[str]) -> dict[str, str]:
    """Return the row of each target as JSON text. Raises CommandError if an argument is not `[TARGET=]FILE`."""
    targets: list[str] = []
    with suppress(ImproperlyConfigured, TypeError):  # a finding of the doctor
        targets = list(conf().targets)
    rows = {}
    for argument in arguments:
        name, _, path = argument.rpartition("=")
        if not name and len(targets) != 1:
            raise CommandError(f"Write --row TARGET=FILE. The targets are: {', '.join(targets)}.")
        try:
            text = Path(path).read_text(encoding="utf-8")
            row = json.loads(text)
        except (OSError, ValueError) as error:
            raise CommandError(f"{path} is not a JSON file: {error}") from error
        if not isinstance(row, dict):
            raise CommandError(f"{path} must contain one row: a JSON object.")
        rows[name or targets[0]] = text.strip()
    return rows
