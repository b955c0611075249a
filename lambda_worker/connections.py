"""The connections to the monolith, and their errors."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import aiohttp
import httpx

from lambda_worker.exceptions import Unreachable
from lambda_worker.resolver import ThreadResolver

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT_SECONDS = 5
"""Timeout for opening a connection."""


@contextmanager
def transport_errors() -> Iterator[None]:
    """Turn the errors of the transport, and a timeout, into Unreachable."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        # Do not repeat the error's text. Some errors quote the headers, which contain the token. The cause of an error
        # of httpx is the one of aiohttp, which is more exact: httpx calls a wrong certificate a ConnectTimeout.
        cause = error.__cause__ if isinstance(error, httpx.HTTPError) else None
        raise Unreachable(type(cause or error).__name__) from error


def new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # There is no limit here, because ConcurrencyLimiter limits the calls.
        connector=aiohttp.TCPConnector(limit=0, resolver=ThreadResolver(), ssl=tls_context()),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS settings: trust the certificate authorities of the system, or of SSL_CERT_FILE.

    They are cached because reading the certificates takes 15 ms, and each invocation has a client.
    """
    return ssl.create_default_context()


@lru_cache(maxsize=32)
def find_url(base_url: str, path: str) -> httpx.URL:
    """Return the URL of a path. It is cached because parsing takes long. Raises httpx.InvalidURL."""
    return httpx.URL(base_url.rstrip("/") + path)
