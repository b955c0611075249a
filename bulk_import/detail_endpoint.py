"""The endpoint of one object: the `detail_url` of a target. It changes an object (PATCH) and deletes it (DELETE)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.urls import URLPattern, URLResolver, get_resolver, get_script_prefix, reverse
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import UpdateModelMixin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.http import HttpRequest


class NoDetailEndpoint(Exception):
    """The `detail_url` is not the URL of a DRF view of one object. The text says why."""


@dataclass(frozen=True, slots=True)
class DetailEndpoint:
    """The view of one object. `use` it to make a view, and `url` to get the URL of an object."""

    url_name: str
    url_kwargs: dict[str, Any]  # the arguments of the URL, besides the one that identifies the object
    callback: Any  # what `as_view()` returned

    @classmethod
    def find(cls, url_name: str, url_kwargs: dict[str, Any]) -> DetailEndpoint:
        """Look the view up in the URL configuration. Raises NoDetailEndpoint."""
        endpoint = cls(url_name, url_kwargs, _find_callback(get_resolver(), url_name))
        view_class = getattr(endpoint.callback, "cls", None)
        if not (isinstance(view_class, type) and issubclass(view_class, GenericAPIView)):
            raise NoDetailEndpoint(f"{url_name!r} is not the URL of a generic view of DRF.")
        return endpoint

    @property
    def view_class(self) -> type[GenericAPIView[Any]]:
        view_class: type[GenericAPIView[Any]] = self.callback.cls
        return view_class

    @property
    def id_field(self) -> str:
        """The field of an object whose value is in the object's URL."""
        return self.view_class.lookup_field

    @property
    def allows_changes(self) -> bool:
        """Whether the view answers PATCH."""
        actions = getattr(self.callback, "actions", None)  # a ViewSet has them
        is_handled = "patch" in actions if actions is not None else hasattr(self.view_class, "patch")
        return is_handled and "patch" in self.view_class.http_method_names

    @property
    def has_plain_update(self) -> bool:
        """Whether a PATCH does only what DRF's own views do: validate the fields and save them."""
        own = UpdateModelMixin
        view_class: Any = self.view_class
        return all(getattr(view_class, name, None) is getattr(own, name) for name in ("update", "partial_update"))

    @property
    def url_kwarg(self) -> str:
        """The argument of the URL that identifies the object."""
        return self.view_class.lookup_url_kwarg or self.view_class.lookup_field

    def object_id(self, instance: Any) -> str:
        """Return what identifies an object in its URL."""
        return str(getattr(instance, self.id_field))

    def url(self, object_id: str) -> str:
        """Return the path of the object's URL, as a client sees it. Raises NoReverseMatch if the ID cannot be in it."""
        return reverse(self.url_name, kwargs={**self.url_kwargs, self.url_kwarg: object_id})

    def reroute(self, request: HttpRequest, method: str, object_id: str) -> None:
        """Change the request, which has not reached any view yet, to one for the object.

        The URL is resolved afterwards, so the view, its permissions and its throttles are those of the new URL.
        """
        request.path = self.url(object_id)
        request.path_info = "/" + request.path.removeprefix(get_script_prefix())
        request.method = request.META["REQUEST_METHOD"] = method
        request.META["PATH_INFO"] = request.path_info

    def view(self, request: HttpRequest) -> Any:
        """Return a new view for the request, to ask it for its permissions, queryset and serializer."""
        view: Any = self.callback.cls(**self.callback.initkwargs)
        view.args, view.kwargs, view.format_kwarg = (), dict(self.url_kwargs), None
        view.action_map = getattr(self.callback, "actions", None) or {}
        view.request = view.initialize_request(request)
        return view


@lru_cache(maxsize=64)
def _find_callback(resolver: URLResolver, url_name: str) -> Any:
    *namespaces, name = url_name.split(":")
    for pattern in _patterns(resolver.url_patterns, namespaces):
        if pattern.name == name:
            return pattern.callback
    raise NoDetailEndpoint(f"There is no URL with the name {url_name!r}.")


def _patterns(entries: Iterable[URLPattern | URLResolver], namespaces: list[str]) -> Iterator[URLPattern]:
    """Yield the URL patterns within these namespaces, the outermost namespace first."""
    for entry in entries:
        if isinstance(entry, URLPattern):
            if not namespaces:
                yield entry
        elif entry.namespace is None:
            yield from _patterns(entry.url_patterns, namespaces)
        elif namespaces and namespaces[0] in {entry.namespace, entry.app_name}:
            yield from _patterns(entry.url_patterns, namespaces[1:])
