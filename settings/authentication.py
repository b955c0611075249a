"""Basic authentication for curl on a developer's machine, which does not disturb the pages of the shop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.authentication import BasicAuthentication

if TYPE_CHECKING:
    from rest_framework.request import Request


class QuietBasicAuthentication(BasicAuthentication):
    """Accepts a user name and password with each request, but does not ask for them.

    To a 401 that asks for basic authentication, browsers open a dialog of their own. The import page has a better one.
    """

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return a scheme that browsers do not know."""
        return f'Session realm="{self.www_authenticate_realm}"'
