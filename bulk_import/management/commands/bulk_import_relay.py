"""`manage.py bulk_import_relay`: send the messages, emails and webhooks that are due.

Run it from cron every minute, or as a service with --every.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections

from bulk_import.exceptions import QueueUnavailable
from bulk_import.outbox.relay import sweep

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Send the SQS messages, emails and webhooks that are due and were not sent yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--every",
            type=int,
            metavar="SECONDS",
            help="run until interrupted, with a pause of SECONDS between two runs",
        )

    def handle(self, *, every: int | None, **_options: Any) -> None:
        if not every:
            self.sweep()
            return
        while True:
            try:
                self.sweep()
            except (CommandError, DatabaseError) as error:
                self.stderr.write(str(error))
            close_old_connections()
            time.sleep(every)

    def sweep(self) -> None:
        try:
            sent = sweep()
        except QueueUnavailable as error:
            raise CommandError(f"{error} The chunks stay pending. Run this command again.") from error
        if any(sent):
            self.stdout.write(f"Sent {sent.messages} messages, {sent.emails} emails, {sent.webhooks} webhooks.")
