"""Settings for the trigger tests: the local settings with ministack's queue and short leases."""

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import AWS_ENDPOINT_URL, BULK_IMPORT

BULK_IMPORT = {
    **BULK_IMPORT,
    "QUEUE_URL": f"{AWS_ENDPOINT_URL}/000000000000/bulk-import",  # the account ID of ministack
    "LEASE_SECONDS": 4,
}
