"""Rolls back what a view writes to databases: for each row of a rehearsal, and for the doctor's probe.

The view runs in a transaction of each database, which is rolled back afterwards. Within a transaction that is already
open, it is a savepoint. So the ledger record of a row, which is written outside the savepoint, is still committed.
Functions that the view passes to `transaction.on_commit` do not run. Effects outside the databases are not rolled back.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, connections, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITES = re.compile(
    r"\s*(?:/\*.*?\*/\s*)*(?:(?:INSERT|UPDATE|DELETE|REPLACE|MERGE|COPY|CALL)\b"
    r"|WITH\b.*\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\b)",
    re.IGNORECASE | re.DOTALL,
)
"""The beginning of a SQL statement that counts as writing. An instrumentation may have added comments before it."""


@dataclass(slots=True)
class DatabaseUse:
    """The aliases of the databases that a block used, and of those of them that it wrote to."""

    used: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


@contextmanager
def rolled_back() -> Iterator[DatabaseUse]:
    """Run the block in a transaction of each database, and roll all of them back when it ends.

    Yields the databases that the block has used so far. If a database does not respond when its transaction begins, the
    block cannot use it, because nothing could be rolled back there.
    """
    use = DatabaseUse()

    def record(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        use.used.add(context["connection"].alias)
        if WRITES.match(sql):
            use.written.add(context["connection"].alias)
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
        yield use


def _refuse(*_statement: Any) -> Any:
    raise OperationalError("This database did not respond when the rehearsal began.")
