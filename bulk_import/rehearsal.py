"""Rolls back what a view writes to databases: for each row of a rehearsal, and for the doctor's probe.

The view runs in a transaction of each database, which is rolled back afterwards. Within a transaction that is already
open, it is a savepoint. So the ledger record of a row, which is written outside the savepoint, is still committed.
Functions that the view passes to `transaction.on_commit` do not run. Effects outside the databases are not rolled back.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, connections, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "COPY")
"""First words of the SQL statements that count as writing."""


@contextmanager
def rolled_back() -> Iterator[set[str]]:
    """Run the block in a transaction of each database, and roll all of them back when it ends.

    Yields a set. While the block runs, the alias of each database that it writes to is added to this set. If a database
    does not respond when its transaction begins, the block cannot use it, because nothing could be rolled back there.
    """
    written: set[str] = set()

    def record(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.lstrip().upper().startswith(WRITES):
            written.add(context["connection"].alias)
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for alias in connections:
            try:
                stack.enter_context(transaction.atomic(using=alias))
            except OperationalError:
                stack.enter_context(connections[alias].execute_wrapper(_refuse))
                continue
            stack.enter_context(connections[alias].execute_wrapper(record))
            stack.callback(transaction.set_rollback, True, using=alias)
        yield written


def _refuse(*_statement: Any) -> Any:
    raise OperationalError("This database did not respond when the rehearsal began.")
