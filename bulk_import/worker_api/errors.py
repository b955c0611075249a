"""The answers of the worker API to a call that it refuses, each with a `code` that tells the worker what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework import status
from rest_framework.response import Response

from bulk_import.exceptions import (
    ChunkClosed,
    ClaimError,
    CreatesRunning,
    JobPaused,
    LeaseHeld,
    LedgerDisagrees,
    NotNow,
    RetriedTooSoon,
    StaleEpoch,
)
from bulk_import_wire.contract import CONTRACT_HEADER, CONTRACT_VERSION, OLDEST_CONTRACT_VERSION

if TYPE_CHECKING:
    from rest_framework.request import Request

STATUS_OF_CLAIM_ERROR: dict[type[ClaimError], tuple[int, str]] = {
    LeaseHeld: (status.HTTP_409_CONFLICT, "lease_held"),
    RetriedTooSoon: (status.HTTP_409_CONFLICT, "retried_too_soon"),
    JobPaused: (status.HTTP_409_CONFLICT, "paused"),
    CreatesRunning: (status.HTTP_503_SERVICE_UNAVAILABLE, "creates_running"),
    StaleEpoch: (status.HTTP_409_CONFLICT, "stale_epoch"),
    LedgerDisagrees: (status.HTTP_409_CONFLICT, "ledger_disagrees"),
    ChunkClosed: (status.HTTP_410_GONE, "closed"),
}
"""The HTTP status and the `code` of the response for each error. The code tells the worker what to do."""


class UnsupportedContract(Exception):
    """The worker speaks a version of the contract that this monolith does not support."""


def claim_error_response(error: ClaimError) -> Response:
    """Return the answer to a call that its chunk does not allow now."""
    code, name = STATUS_OF_CLAIM_ERROR[type(error)]
    response = Response({"code": name, "message": str(error)}, status=code)
    if isinstance(error, NotNow):
        response["Retry-After"] = str(error.retry_after_seconds)
    return response


def check_contract(request: Request) -> None:
    """Raise UnsupportedContract if this monolith does not speak the worker's version of the contract.

    A call without a version is accepted, so that an operator can try the API by hand.
    """
    version = request.headers.get(CONTRACT_HEADER, str(CONTRACT_VERSION))
    supported = range(OLDEST_CONTRACT_VERSION, CONTRACT_VERSION + 1)
    if version not in map(str, supported):
        raise UnsupportedContract(
            f"The worker speaks version {version[:10]} of the contract; this monolith supports "
            f"{OLDEST_CONTRACT_VERSION} to {CONTRACT_VERSION}. Deploy the monolith before the worker."
        )
