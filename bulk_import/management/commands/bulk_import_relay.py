"""`manage.py bulk_import_relay`: send what the fast path could not. For cron, every minute, or with --every."""

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
    help = "Send the message of every chunk that is not on the queue, and the mails and webhooks owed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--every", type=int, metavar="SECONDS", help="go on, with so many seconds in between")

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
            raise CommandError(f"{error} The chunks stay pending; run this again.") from error
        if any(sent):
            self.stdout.write("sent: " + ", ".join(f"{count} {things}" for things, count in sent._asdict().items()))
