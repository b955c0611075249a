"""What a delivery of a chunk did, as metrics of CloudWatch: one line of its embedded metric format (EMF) on stdout.

CloudWatch makes metrics of such lines by itself: no call, no permission, and no library for the five numbers.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulk_import_wire.contract import ChunkMessage
    from lambda_worker.row_dispatch import RowDispatch

NAMESPACE = "BulkImport"
UNITS = {
    "RowsCreated": "Count",
    "RowsNotCreated": "Count",
    "Calls": "Count",
    "CallsInVain": "Count",
    "DispatchSeconds": "Seconds",
}
"""A call is in vain when it gets no word of the ledger, or is told to come later: its row is tried again."""


def put_metrics(dispatch: RowDispatch, message: ChunkMessage, epoch: int, seconds: float) -> None:
    """Write the metrics of one dispatch, which took so many seconds. Not on Lambda, nobody reads them: no line.

    Their one dimension is the function. Job and chunk are properties, to search the line by: as dimensions, each
    would be a metric of its own, and billed as one.
    """
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return
    values = {
        "RowsCreated": dispatch.settled - len(dispatch.failures),
        "RowsNotCreated": len(dispatch.failures),
        "Calls": dispatch.calls,
        "CallsInVain": dispatch.calls_in_vain,
        "DispatchSeconds": round(seconds, 3),
    }
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName"]],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in UNITS.items()],
    }
    about = {"job_id": message.job_id, "chunk_id": message.chunk_id, "epoch": epoch}
    embedded = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
    print(json.dumps({**embedded, "FunctionName": function, **values, **about}), flush=True)  # noqa: T201 - EMF is read from stdout
