"""A mail server on a free port of this machine."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default as default_policy
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

    from pytest_django import Settings


class PostOffice:
    """Decides what the mail server does with an email: accept it, reject it, or let the client wait."""

    def __init__(self) -> None:
        self.busy = False
        self.unknown = ""
        self.accepted: list[EmailMessage] = []
        self.waits_at = ""
        self.is_waiting = threading.Event()

    async def wait_at(self, verb: str) -> None:
        if verb == self.waits_at:
            self.is_waiting.set()
            await asyncio.Event().wait()  # until the connection is lost

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        await self.wait_at("MAIL")
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if address == self.unknown:
            return f"550 there is no mailbox {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.busy:
            return "451 too busy, try again later"
        self.accepted.append(message_from_bytes(envelope.content, policy=default_policy))
        await self.wait_at("DATA")
        return "250 OK"


@contextmanager
def smtp_server(settings: Settings) -> Iterator[PostOffice]:
    """Run a mail server, and change the settings so that Django sends email to it."""
    office, loop = PostOffice(), asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SMTP(office, loop=loop), "127.0.0.1", 0))
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = server.sockets[0].getsockname()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield office
    finally:
        asyncio.run_coroutine_threadsafe(close(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def close(server: asyncio.Server) -> None:
    """Close the server, and the connections that still wait."""
    server.close()
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
