"""What is around the views of some monoliths: middleware, WSGI applications and database routers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.wsgi import get_wsgi_application
from django.db import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def below_shop(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Mount the site below /shop, as a WSGI server does."""
    if not environ["PATH_INFO"].startswith("/shop/"):
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"There is nothing here."]
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/shop", environ["PATH_INFO"].removeprefix("/shop")
    return application(environ, start_response)


def behind_gateway(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Reject an Authorization header with an unknown scheme, as some API gateways do."""
    if environ.get("HTTP_AUTHORIZATION", "Basic").partition(" ")[0] not in {"Basic", "Bearer"}:
        start_response("401 Unauthorized", [("Content-Type", "text/plain")])
        return [b"The scheme is unknown."]
    return application(environ, start_response)


def behind_rewriting_proxy(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Replace the host by that of the upstream server, as nginx does by default."""
    environ["HTTP_X_FORWARDED_HOST"], environ["HTTP_HOST"] = environ["HTTP_HOST"], "127.0.0.1"
    return application(environ, start_response)


application = get_wsgi_application()


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
