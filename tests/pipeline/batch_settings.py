"""The local settings with rows that kill the process that creates them."""

import os
import signal
import sys
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import BULK_IMPORT, MIDDLEWARE

MIDDLEWARE = ["tests.pipeline.batch_settings.die_of_deadly_rows", *MIDDLEWARE]
BULK_IMPORT = {**BULK_IMPORT, "LEASE_SECONDS": 5}


def die_of_deadly_rows(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.endswith("/rows"):
            print("a batch call", file=sys.stderr)  # noqa: T201 - the test reads the log
        if request.path == "/products/" and b"DEADLY" in request.body:
            os.kill(os.getpid(), signal.SIGKILL)
        return get_response(request)

    return middleware
