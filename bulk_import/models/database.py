"""Which database has this app's tables, and how this app begins its transactions there."""

from __future__ import annotations

import re
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connections, models, router, transaction

from bulk_import.exceptions import OuterTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest

SAVEPOINT = re.compile(r'(?:/\*.*?\*/\s*)?(ROLLBACK TO )?SAVEPOINT ("?\w+"?)', re.DOTALL)
"""A statement that begins a savepoint or rolls it back. An instrumentation may have added comments around it."""

SCHEMA_OF_TABLE = (
    "SELECT nspname FROM pg_namespace JOIN pg_class ON pg_class.relnamespace = pg_namespace.oid"
    " WHERE pg_class.oid = to_regclass(%s)"
)


def database() -> str:
    """Return the alias of the database that this app writes to.

    The app also reads from this database, and never from a replica, because a replica may not have the last commit yet.
    For example, a worker has just claimed a chunk, but the replica still shows the chunk as free.
    """
    return router.db_for_write(_ledger())


@cache  # this module cannot import it, and each query asks for the database
def _ledger() -> type[models.Model]:
    return apps.get_model("bulk_import", "ImportedRow")


def table_places() -> dict[str, str]:
    """Return the database of the jobs and of the users, and on PostgreSQL their schemas: `{"table": "default.public"}`.

    On a site that keeps each tenant in a schema or database of its own, the places may depend on the current tenant.
    """
    places = {}
    for model in (apps.get_model("bulk_import", "ImportJob"), get_user_model()):
        table, alias = model._meta.db_table, router.db_for_write(model)
        places[table] = alias
        if connections[alias].vendor == "postgresql":
            with connections[alias].cursor() as cursor:
                cursor.execute(SCHEMA_OF_TABLE, [connections[alias].ops.quote_name(table)])
                places[table] = f"{alias}.{(cursor.fetchone() or ['nowhere'])[0]}"
    return places


class DurableAtomic(transaction.Atomic):
    """An `atomic(durable=True)` that raises OuterTransaction within another transaction."""

    def __enter__(self) -> None:
        try:
            super().__enter__()
        except RuntimeError as error:  # this is how Django reports an outer transaction
            raise OuterTransaction from error


def durable_transaction() -> DurableAtomic:
    """Return a context that runs its block in a transaction, and commits when the block ends. Raises OuterTransaction.

    Within a transaction that other code has opened, the commit would come later, and could still fail. For example, the
    API would answer that an import was accepted, and then the outer transaction would remove it.
    """
    return DurableAtomic(database(), savepoint=True, durable=True)


def without_atomic_requests(view: Callable[..., Any]) -> Callable[..., Any]:
    """Exempt a view from the setting ATOMIC_REQUESTS of every database, because it begins its own transactions."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@contextmanager
def observe_atomic_request(request: HttpRequest, using: str) -> Iterator[Callable[[], bool]]:
    """Run a view in this block. Yields a function that says whether its transaction of ATOMIC_REQUESTS was rolled back.

    Within the ledger's transaction, that of ATOMIC_REQUESTS is a savepoint: the first one that is opened. Django rolls
    it back if the view calls `set_rollback(True)`, and afterwards only the SQL statement shows it.
    """
    opened: list[str] = []
    rolled_back: set[str] = set()

    def record(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if savepoint := SAVEPOINT.match(sql):
            is_rollback, name = savepoint.groups()
            (rolled_back.add if is_rollback else opened.append)(name)
        return execute(sql, params, many, context)

    def was_rolled_back() -> bool:
        exempt = getattr(getattr(request.resolver_match, "func", None), "_non_atomic_requests", ())
        return bool(opened) and using not in exempt and opened[0] in rolled_back

    connection = connections[using]
    with connection.execute_wrapper(record) if connection.settings_dict["ATOMIC_REQUESTS"] else nullcontext():
        yield was_rolled_back


@contextmanager
def record_inserts(using: str, statements: list[str]) -> Iterator[None]:
    """Append each statement of the block that certainly inserts rows to this list.

    A statement with ON CONFLICT or OR IGNORE may insert nothing.
    """

    def record(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if "INSERT INTO" in sql and "ON CONFLICT" not in sql:
            statements.append(sql)
        return execute(sql, params, many, context)

    with connections[using].execute_wrapper(record):
        yield


class PrimaryManager(models.Manager[Any]):
    """A manager that reads from the database that it writes to."""

    @property
    def db(self) -> str:
        return database()

    def get_queryset(self) -> models.QuerySet[Any]:
        manager: Any = self
        options = {"model": self.model, "using": self.db, "hints": manager._hints}  # noqa: SLF001 - as in Django
        queryset: models.QuerySet[Any] = manager._queryset_class(**options)  # noqa: SLF001 - `using` would copy it
        return queryset
