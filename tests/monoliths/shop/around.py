"""What is around the views of some monoliths: middleware and database routers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

if TYPE_CHECKING:
    from collections.abc import Callable


def tenant_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Choose the tenant by the host."""

    def answer(request: Any) -> Any:
        request.tenant = request.get_host().partition(".")[0]
        return get_response(request)

    return answer


def transaction_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Open a transaction around each request."""
    return transaction.atomic(get_response)


class ReplicaRouter:
    """Read from the replica, and write to the primary."""

    def db_for_read(self, _model: Any, **_hints: Any) -> str:
        return "replica"

    def db_for_write(self, _model: Any, **_hints: Any) -> str:
        return "default"

    def allow_relation(self, *_objects: Any, **_hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, *_app: Any, **_hints: Any) -> bool:
        return db == "default"


class CatalogueRouter:
    """Keep the items in a database of their own."""

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        return "catalogue" if model._meta.app_label == "shop" else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool:
        return (db == "catalogue") == (app_label == "shop")
