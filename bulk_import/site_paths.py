"""The paths of the site's URLs, without the prefix under which a server mounts the site."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.urls import get_resolver, get_script_prefix, get_urlconf, reverse
from django.utils.translation import get_language

if TYPE_CHECKING:
    from django.urls import URLResolver


def path_within_site(path: str) -> str:
    """Return a path of `reverse` without the prefix of FORCE_SCRIPT_NAME or of the server.

    A worker adds it to its base URL. If the site has a prefix, the base URL contains it already.
    """
    return "/" + path.removeprefix(get_script_prefix())


def find_path(url_name: str, kwargs: dict[str, Any]) -> str:
    """Return the path of a URL within the site. Raises NoReverseMatch.

    A path without arguments is cached, because every create call needs one. It depends on the URL configuration, the
    prefix, and with `i18n_patterns` on the language.
    """
    if kwargs:
        return path_within_site(reverse(url_name, kwargs=dict(kwargs)))
    return _find_plain_path(url_name, get_resolver(get_urlconf()), get_script_prefix(), get_language())


@lru_cache(maxsize=256)
def _find_plain_path(url_name: str, _resolver: URLResolver, _prefix: str, _language: str | None) -> str:
    return path_within_site(reverse(url_name))
