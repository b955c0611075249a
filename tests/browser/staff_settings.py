"""Settings for the tests of the admin: short leases, small chunks, and an endpoint that can be slowed down."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import BULK_IMPORT, MIDDLEWARE

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

BULK_IMPORT = {**BULK_IMPORT, "CHUNK_ROWS": 5, "LEASE_SECONDS": 3, "PAUSE_SECONDS": 60}
MIDDLEWARE = ["tests.browser.staff_settings.SlowEndpoint", *MIDDLEWARE]

SLOW_SECONDS = 1.5
"""Duration of a create call while the endpoint is slow."""


class SlowEndpoint:
    """Middleware that delays the create calls of imports while the file exists that SLOW_FILE names."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_create = request.headers.get("Authorization", "").startswith("Import ")
        if is_create and Path(os.environ["SLOW_FILE"]).exists():
            time.sleep(SLOW_SECONDS)
        return self.get_response(request)
