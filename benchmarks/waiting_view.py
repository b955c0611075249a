"""Makes each view of the shop wait, as if its database were slow."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

VIEW_WAITS_SECONDS = int(os.environ.get("VIEW_WAITS_MS", "0")) / 1e3


class WaitsForDatabase(BasePermission):
    """Permits everything after VIEW_WAITS_SECONDS. Every view of the shop checks its permissions, once per request."""

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        time.sleep(VIEW_WAITS_SECONDS)
        return True
