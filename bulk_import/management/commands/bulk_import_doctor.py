"""`manage.py bulk_import_doctor`: try what an import needs, and say how to mend what is broken."""

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
    help = "Try buckets, queue, database, secret, clocks and the worker API. Exit code 1 when imports would fail."
    requires_system_checks = []  # they are among the findings

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--base-url", default="", help="the monolith, as the worker reaches it: try the worker API")
        parser.add_argument(
            "--function-timeout", type=int, default=300, metavar="SECONDS", help="of the Lambda function or the poller"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object, for programs")

    def handle(self, *, base_url: str, function_timeout: int, **options: Any) -> None:
        findings = list(examine(base_url, function_timeout))
        is_well = not any(finding.level == Level.ERROR for finding in findings)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": is_well, "findings": [asdict(finding) for finding in findings]}))
        else:
            for finding in findings:
                self.stdout.write(self.describe(finding))
        if not is_well:
            sys.exit(1)

    def describe(self, finding: Finding) -> str:
        style = {Level.OK: self.style.SUCCESS, Level.WARNING: self.style.WARNING, Level.ERROR: self.style.ERROR}
        line = style[finding.level](f"{finding.level:8}") + f"{finding.subject}: {finding.message}"
        return f"{line}\n{'':8}→ {finding.mend}" if finding.mend else line
