"""Permissions that the rows of a batch share, so that they are not loaded again for each row.

A create call gets a new user object from the database, and so loads the permissions of the user again. The rows of a
batch follow each other within a second, so they share the permissions that Django has cached on the user object of an
earlier row. Nothing else is shared: each row has a user object of its own, and `is_active` is that of the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.http import HttpRequest

ENVIRON_KEY = "bulk_import.shared_permissions"
"""Key of the SharedPermissions in `request.META`. A client cannot set it: its headers are under keys with `HTTP_`."""

CACHES = ("_perm_cache", "_user_perm_cache", "_group_perm_cache")
"""The attributes in which Django's ModelBackend caches the permissions of a user object."""


class SharedPermissions:
    """The permissions of one user, as an earlier row of the batch has loaded them."""

    def __init__(self) -> None:
        self._user_id: Any = None
        self._caches: dict[str, Any] = {}

    def give_to(self, user: Any) -> None:
        """Put the permissions on the user object of the next row."""
        if user.pk == self._user_id:
            vars(user).update(self._caches)

    def keep_from(self, user: Any) -> None:
        """Keep the permissions of this user object for the next row.

        Call it only after the row was committed. A row that is rolled back may have loaded permissions that it had
        granted itself.
        """
        self._user_id = user.pk
        self._caches = {name: vars(user)[name] for name in CACHES if name in vars(user)}


def shared_permissions(request: HttpRequest) -> SharedPermissions | None:
    """Return the permissions that the rows of the batch share; None if the request is not a row of a batch."""
    shared: SharedPermissions | None = request.META.get(ENVIRON_KEY)
    return shared
