"""Which database has this app's tables, and how this app begins its transactions there."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections, models, router, transaction

from bulk_import.exceptions import OuterTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def database() -> str:
    """Return the alias of the database that this app writes to.

    The app also reads from this database, and never from a replica, because a replica may not have the last commit yet.
    For example, a worker has just claimed a chunk, but the replica still shows the chunk as free.
    """
    return router.db_for_write(apps.get_model("bulk_import", "ImportedRow"))


@contextmanager
def durable_transaction() -> Iterator[None]:
    """Run a block in a transaction that is committed when the block ends. Raises OuterTransaction.

    Within a transaction that other code has opened, the commit would come later, and could still fail. For example, the
    API would answer that an import was accepted, and then the outer transaction would remove it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(transaction.atomic(using=database(), durable=True))
        except RuntimeError as error:  # this is how Django reports an outer transaction
            raise OuterTransaction from error
        yield


def without_atomic_requests(view: Callable[..., Any]) -> Callable[..., Any]:
    """Exempt a view from the setting ATOMIC_REQUESTS of every database, because it begins its own transactions."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


class PrimaryManager(models.Manager[Any]):
    """A manager that reads from the database that it writes to."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(database())
