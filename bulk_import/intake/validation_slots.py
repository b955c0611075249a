"""Limits how many uploads are validated at the same time, so that the other requests of the site are served meanwhile.

Validation takes processor time, and Python runs one thread of a process at a time. Each process therefore validates
at most MAX_VALIDATIONS uploads at once, and only one of each user. The limits apply to each process: a user whose
requests reach several processes can have one upload validated in each of them.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.exceptions import Busy

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

MAX_VALIDATIONS = 2
"""Uploads that one process validates at the same time."""

WAIT_SECONDS = 0.2
"""How long an upload waits for its turn.

Thousands of rows are validated in this time, so most waits succeed. It is short enough not to block many threads.
"""


class ValidationSlots:
    """The users whose uploads are being validated in this process."""

    def __init__(self, limit: int = MAX_VALIDATIONS) -> None:
        self._limit = limit
        self._changed = Condition()
        self._users: set[Hashable] = set()

    @contextmanager
    def acquire(self, user: Any) -> Iterator[None]:
        """Wait for a slot and occupy it while the block runs. Raises Busy if none is free within WAIT_SECONDS."""
        key = user.pk
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_slot(key), WAIT_SECONDS):
                raise Busy(_("Too many files are being checked right now. Please try again in a few seconds."))
            self._users.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._users.remove(key)
                self._changed.notify_all()

    def _has_slot(self, key: Hashable) -> bool:
        return key not in self._users and len(self._users) < self._limit


slots = ValidationSlots()
"""The slots of this process."""

reading = ValidationSlots(limit=sys.maxsize)
"""The users whose uploads are being read. To decompress an upload is work too, so each user has one at a time.

There is no limit for all users together: uploads over slow connections would otherwise block those of other users.
"""
