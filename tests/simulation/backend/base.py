"""A database backend: SQLite in memory with virtual time, and with a hook before each statement and around commits."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.db.backends.sqlite3 import base
from django.db.backends.sqlite3.operations import DatabaseOperations as SqliteOperations

from tests.simulation.virtual_time import database_time

if TYPE_CHECKING:
    from collections.abc import Callable


class Cursor(base.SQLiteCursorWrapper):
    """A cursor that calls the hook before each statement, and that knows the SQL of repeated statements.

    It does what Django's cursor does, without the layers that log queries and check threads.
    """

    wrapper: DatabaseWrapper

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def execute(self, query: str, params: Any = None) -> Any:
        execute: Any = self._execute
        for wrapper in reversed(self.wrapper.execute_wrappers):
            execute = partial(wrapper, execute)
        return execute(query, params, False, {"connection": self.wrapper, "cursor": self})

    def _execute(self, query: str, params: Any, _many: bool, _context: Any) -> Any:
        self.wrapper.validate_no_broken_transaction()
        self.wrapper.before_step(query)
        try:
            if params is None:
                return sqlite3.Cursor.execute(self, query)
            return sqlite3.Cursor.execute(self, _with_question_marks(query), params)
        except sqlite3.Error:
            with self.wrapper.wrap_database_errors:  # raises Django's error for it
                raise


@cache
def _with_question_marks(query: str) -> str:
    """Return the SQL with the placeholders of SQLite. Django replaces them in each execution."""
    return base.FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%")


_uuid = lru_cache(maxsize=1000)(UUID)


def _aware(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class DatabaseOperations(SqliteOperations):
    """Converts values as Django does, but faster: all times are in UTC, and a run reads the same few UUIDs."""

    def convert_datetimefield_value(self, value: Any, _expression: Any, _connection: Any) -> Any:
        return _aware(value) if type(value) is str else value  # a column has been converted already

    def convert_uuidfield_value(self, value: Any, _expression: Any, _connection: Any) -> Any:
        return None if value is None else _uuid(value)


sqlite3.register_converter("datetime", lambda value: _aware(value.decode()))


class DatabaseWrapper(base.DatabaseWrapper):
    """The connection that all simulated processes of the monolith share, one after the other."""

    ops_class = DatabaseOperations
    before_step: Callable[[str], None] = staticmethod(lambda _step: None)
    """Called before each statement, before each commit and after it. It may raise, as if the process died there."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        # `deterministic` lets SQLite call it once for each statement, as the time is the same for all rows.
        connection.create_function("STRFTIME", 2, lambda _format, _now: database_time(), deterministic=True)
        return connection

    def cursor(self) -> Any:
        self.ensure_connection()
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
