"""`manage.py bulk_import_relay`: send what the fast path could not. Made for cron, every minute."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from bulk_import.exceptions import QueueUnavailable
from bulk_import.relay import send_unsent_chunks


class Command(BaseCommand):
    help = "Send the message of every chunk that is not on the queue. Sending twice is harmless."

    def handle(self, **_options: Any) -> None:
        try:
            sent = send_unsent_chunks()
        except QueueUnavailable as error:
            raise CommandError(f"{error} The chunks stay pending; run this again.") from error
        self.stdout.write(f"{sent} chunks sent")
