"""The local settings, for a queue of ministack's; a killed function's chunk is free again after some seconds."""

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import AWS_ENDPOINT_URL, BULK_IMPORT

BULK_IMPORT = {
    **BULK_IMPORT,
    "QUEUE_URL": f"{AWS_ENDPOINT_URL}/000000000000/bulk-import",  # ministack's account
    "LEASE_SECONDS": 4,
}
