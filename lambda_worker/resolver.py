"""Looks up the address of the monolith in threads of its own."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

DNS_THREADS = ThreadPoolExecutor(thread_name_prefix="dns")
"""Threads for `socket.getaddrinfo`, which blocks.

They are not asyncio's default threads, which aiohttp's own resolver uses: `asyncio.run` waits for those before it
returns, so a lookup that hangs would keep the invocation from ending in time.
"""


class ThreadResolver(AbstractResolver):
    """Finds the addresses of a host with `socket.getaddrinfo`. aiohttp caches them."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of the host. Raises OSError if there is none."""
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(DNS_THREADS, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Do nothing: the threads serve later invocations."""
