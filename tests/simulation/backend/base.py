"""A database backend: SQLite in memory with virtual time, and with a hook before each statement and around commits."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db.backends.sqlite3 import base

from tests.simulation.virtual_time import database_time

if TYPE_CHECKING:
    from collections.abc import Callable


class Cursor(base.SQLiteCursorWrapper):
    """A cursor that calls the hook before each statement, and that knows the SQL of repeated statements."""

    wrapper: DatabaseWrapper

    def execute(self, query: str, params: Any = None) -> Any:
        self.wrapper.before_step(query)
        if params is None:
            return sqlite3.Cursor.execute(self, query)
        return sqlite3.Cursor.execute(self, _with_question_marks(query), params)


@cache
def _with_question_marks(query: str) -> str:
    """Return the SQL with the placeholders of SQLite. Django replaces them in each execution."""
    return base.FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%")


class DatabaseWrapper(base.DatabaseWrapper):
    """The connection that all simulated processes of the monolith share, one after the other."""

    before_step: Callable[[str], None] = staticmethod(lambda _step: None)
    """Called before each statement, before each commit and after it. It may raise, as if the process died there."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        # `deterministic` lets SQLite call it once for each statement, as the time is the same for all rows.
        connection.create_function("STRFTIME", 2, lambda _format, _now: database_time(), deterministic=True)
        return connection

    def create_cursor(self, name: str | None = None) -> Any:  # noqa: ARG002 - Django's signature
        found = self.connection.cursor(factory=Cursor)
        found.wrapper = self
        return found

    def _commit(self) -> None:
        self.before_step("before commit")
        super()._commit()  # type: ignore[misc] # django-stubs do not know the method
        self.before_step("after commit")

    def forget_transaction(self) -> None:
        """Roll back, and forget everything about the transaction, as if its process had died."""
        if self.connection is None:
            return
        self.connection.rollback()
        self.savepoint_ids, self.run_on_commit, self.atomic_blocks = [], [], []
        self.in_atomic_block = self.needs_rollback = self.closed_in_transaction = False
        self.run_commit_hooks_on_set_autocommit_on = False
        self.commit_on_exit = self.autocommit = True
