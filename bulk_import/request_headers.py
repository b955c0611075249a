"""Reads single headers. `request.headers` copies all of them first, and each request of the site passes here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request


def read_header(request: HttpRequest | Request, name: str, default: str = "") -> str:
    """Return the value of a header that is neither Content-Type nor Content-Length, or the default."""
    value: str = request.META.get(f"HTTP_{name.replace('-', '_').upper()}", default)
    return value
