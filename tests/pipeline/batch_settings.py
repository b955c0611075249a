"""The local settings with rows that kill their process, that hang, or whose answers come late."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from bulk_import_wire.contract import VERDICT_HEADER, RowVerdict
from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import BULK_IMPORT, MIDDLEWARE

MIDDLEWARE = ["tests.pipeline.batch_settings.misbehave", *MIDDLEWARE]
BULK_IMPORT = {**BULK_IMPORT, "LEASE_SECONDS": 5}
LATE_SECONDS, HANG_SECONDS = 5, 9


def misbehave(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.endswith("/rows"):
            print("a batch call", file=sys.stderr)  # noqa: T201 - the tests read the log
        if request.path != "/products/" or request.method != "POST":
            return get_response(request)
        sku = json.loads(request.body)["sku"]
        if "bulk_import.shared_permissions" not in request.META:
            print(f"a create call of {sku}", file=sys.stderr)  # noqa: T201 - see above
        if "DEADLY" in sku:
            os.kill(os.getpid(), signal.SIGKILL)
        if "HANGING" in sku:
            time.sleep(HANG_SECONDS)
            return HttpResponse(status=500)
        response = get_response(request)
        if "LATE" in sku and response[VERDICT_HEADER] == RowVerdict.CREATED:
            time.sleep(LATE_SECONDS)
        return response

    return middleware
