"""Finds the endpoint with a URL name: its view, its serializer and its path, for `manage.py bulk_import_init`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.management.base import CommandError
from django.test import RequestFactory
from django.urls import NoReverseMatch, Resolver404, URLPattern, get_resolver
from django.utils.translation import get_language_from_path
from rest_framework.serializers import BaseSerializer

from bulk_import.conf import Target
from bulk_import.detail_checks import check_detail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_SUGGESTIONS = 20
"""Most URL names that an error suggests."""


@dataclass(frozen=True, slots=True)
class FoundEndpoint:
    """The create endpoint of a target, and what else the target may use. Texts that were not found are ""."""

    target: str
    create_url: str
    create_kwargs: dict[str, str]
    serializer: str
    detail_url: str
    lookup: str
    bulk_path: str  # path of the bulk endpoint within the site, without a slash at the start


def find_endpoint(url_name: str, kwargs: dict[str, str], target: str = "", serializer: str = "") -> FoundEndpoint:
    """Look the endpoint up. Raises CommandError, which says what to pass."""
    endpoint = Target("", url_name, "", kwargs)
    try:
        path = endpoint.create_path
        view = endpoint.create_view()
    except NoReverseMatch as error:
        hint = "If its URL has arguments, pass them with --kwargs. URL names that accept POST:"
        raise CommandError(f"{error}\n{hint} {_suggestions(url_name)}") from error
    except (Resolver404, AttributeError) as error:
        message = f"{url_name} is not the URL of a DRF view. Imports call an endpoint that creates one object by POST."
        raise CommandError(message) from error
    serializer = serializer or _find_serializer(view, path)
    if not serializer:
        raise CommandError(f"{type(view).__name__} does not tell its serializer. Pass it: --serializer path.to.Class")
    parts = [part for part in path.strip("/").split("/") if part]
    if settings.USE_I18N and get_language_from_path(path) == (parts or [""])[0]:
        parts = parts[1:]  # the bulk endpoint does not need a language in its path
    name = target or next((part for part in reversed(parts) if part.isidentifier()), "rows")
    detail_url = url_name.removesuffix("-list") + "-detail" if url_name.endswith("-list") else ""
    found = Target(name, url_name, serializer, kwargs, detail_url=detail_url)
    if list(check_detail(found)):
        detail_url = ""
    return FoundEndpoint(
        name, url_name, kwargs, serializer, detail_url, _find_lookup(found), "/".join([*parts, "bulk"])
    )


def _find_serializer(view: Any, path: str) -> str:
    """Return the dotted path of the serializer that the view uses for a POST; "" if it does not tell."""
    request = RequestFactory().post(path, b"{}", content_type="application/json")
    request.user = AnonymousUser()
    for find in (_class_for, _class_of):
        with suppress(Exception):  # the view's own code may raise anything
            found = find(view, request)
            if isinstance(found, type) and issubclass(found, BaseSerializer):
                return f"{found.__module__}.{found.__qualname__}"
    return ""


def _class_for(view: Any, request: Any) -> Any:
    view.action_map = {"post": "create"}  # a ViewSet may choose its serializer by the action
    view.request = view.initialize_request(request)
    return view.get_serializer_class()


def _class_of(view: Any, _request: Any) -> Any:
    return view.serializer_class


def _find_lookup(target: Target) -> str:
    """Return a field of the serializer that identifies one object, such as a SKU; "" if there is none."""
    with suppress(Exception):  # the serializer's own code may raise anything
        names = map(str, target.serializer_class().fields.keys())
        for name in sorted(names, key=lambda name: name in {"id", "pk"}):  # people know other fields better
            found = Target(target.name, target.create_url, target.serializer, target.create_kwargs, lookup=name)
            if not list(check_detail(found)):
                return name
    return ""


def _suggestions(url_name: str) -> str:
    """Return the URL names of the endpoints that create objects, the most similar ones first."""
    names = sorted(set(_creating_names(get_resolver().url_patterns)))
    wanted = url_name.rpartition(":")[2]
    names.sort(key=lambda name: SequenceMatcher(None, wanted, name.rpartition(":")[2]).ratio(), reverse=True)
    more = f" and {len(names) - MAX_SUGGESTIONS} more" if len(names) > MAX_SUGGESTIONS else ""
    return ", ".join(names[:MAX_SUGGESTIONS]) + more


def _creating_names(entries: Iterable[Any], namespace: str = "") -> Iterator[str]:
    """Yield the URL names of the DRF views that accept POST and create."""
    for entry in entries:
        if not isinstance(entry, URLPattern):
            inner = f"{namespace}{entry.namespace}:" if entry.namespace else namespace
            yield from _creating_names(entry.url_patterns, inner)
            continue
        view_class, actions = getattr(entry.callback, "cls", None), getattr(entry.callback, "actions", None)
        creates = actions.get("post") == "create" if actions else hasattr(view_class, "post")
        if entry.name and view_class and creates and not view_class.__module__.startswith("bulk_import."):
            yield namespace + entry.name
