"""`manage.py bulk_import_local`: run S3, SQS, the workers and the relay on this machine until Ctrl-C."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from bulk_import.conf import conf
from bulk_import.local.processes import exit_on_signals
from bulk_import.local.site_stack import CannotRun, site_stack
from bulk_import.management.quiet import quiet_clients

if TYPE_CHECKING:
    from argparse import ArgumentParser

CHECK_SECONDS = 0.5

INTRODUCTION = """\
S3, SQS, the worker, the dead-letter worker and the relay are running. Queue: {queue_url}
The worker calls the site at {base_url}. Start it there, with the same environment, and import a file:
  python manage.py bulk_import FILE --user NAME --watch
Ctrl-C stops everything. Payloads and messages are in memory, so imports that have not ended then are lost.
"""


class Command(BaseCommand):
    help = "Run everything that an import needs besides the site, on this machine: S3, SQS, the workers and the relay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--base-url",
            default=os.environ.get("BULK_IMPORT_BASE_URL", "http://127.0.0.1:8000"),
            help="where the worker reaches the site; or set BULK_IMPORT_BASE_URL (default: %(default)s)",
        )

    def handle(self, *, base_url: str, verbosity: int, **_options: Any) -> None:
        quiet_clients(verbosity)
        exit_on_signals()
        try:
            with site_stack(base_url, self.say) as stack:
                self.say(INTRODUCTION.format(queue_url=conf().queue_url, base_url=base_url))
                while True:
                    time.sleep(CHECK_SECONDS)
                    stack.check()
        except CannotRun as error:
            raise CommandError(str(error)) from error

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
