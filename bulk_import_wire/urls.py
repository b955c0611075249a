"""The rule for addresses that an operator configures, such as the public URL of the site."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_http_url(text: str) -> bool:
    """Return whether this is an absolute URL with the scheme http or https, a host, and a valid port if it has one."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port or the IPv6 address is malformed
        return False
