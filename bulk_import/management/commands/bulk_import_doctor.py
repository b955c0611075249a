"""`manage.py bulk_import_doctor`: check that imports can work, and say how to fix what fails."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from bulk_import.doctor import Level, examine

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
            "--probe-user",
            default="",
            metavar="NAME",
            help="call the create endpoints as this user; what they write to databases is rolled back",
        )
        parser.add_argument(
            "--probe-row",
            action="append",
            default=[],
            metavar="TARGET=JSON",
            help="row for the create endpoint of a target, for --probe-user; can be repeated",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")

    def handle(self, *, base_url: str, function_timeout: int, **options: Any) -> None:
        rows = {name: json.loads(row) for name, _, row in (text.partition("=") for text in options["probe_row"])}
        findings = list(examine(base_url, function_timeout, options["probe_user"], rows))
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
        line = style[finding.level](f"{finding.level:8}") + f"{finding.subject}: {finding.message}"
        return f"{line}\n{'':8}→ {finding.fix}" if finding.fix else line
