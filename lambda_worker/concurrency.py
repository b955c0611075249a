"""How many create calls may be in flight at once."""

from __future__ import annotations

import asyncio


class ConcurrencyLimit:
    """A semaphore whose cap may change while calls are in flight."""

    def __init__(self, cap: int) -> None:
        self._cap = max(1, cap)
        self._in_flight = 0
        self._changed = asyncio.Event()

    def set_cap(self, cap: int) -> None:
        self._cap = max(1, cap)
        self._changed.set()

    async def acquire(self) -> None:
        while self._in_flight >= self._cap:
            self._changed.clear()
            await self._changed.wait()
        self._in_flight += 1

    def release(self) -> None:
        self._in_flight -= 1
        self._changed.set()
