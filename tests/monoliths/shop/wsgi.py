"""The WSGI applications of some monoliths: what servers, gateways and proxies do before Django."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.wsgi import get_wsgi_application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

application = get_wsgi_application()


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
