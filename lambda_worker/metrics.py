"""Writes CloudWatch metrics about each delivery of a chunk: one line in the embedded metric format (EMF) on stdout.

CloudWatch extracts the metrics from such lines. That needs no call, no permission and no library.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from bulk_import_wire.contract import LEDGER_OUTCOMES, RowVerdict

if TYPE_CHECKING:
    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.row_dispatch import RowDispatch

NAMESPACE = "BulkImport"
"""CloudWatch namespace of the metrics."""

COMMITTED = (*map(str, LEDGER_OUTCOMES), str(RowVerdict.REPLAYED))
"""The verdicts on rows that have a ledger record. Each has a metric of its own."""

UNITS = {
    **{f"Rows{verdict.capitalize()}": "Count" for verdict in COMMITTED},
    "RowsNotCreated": "Count",
    "Calls": "Count",
    "CallsUnanswered": "Count",
    "DispatchSeconds": "Seconds",
}
"""The metrics and their units.

RowsReplayed counts the rows that an earlier call has committed, whose response was lost.
CallsUnanswered counts the calls whose response had no verdict or was a 429 or 503, and those that got no response.
"""


def put_metrics(dispatch: RowDispatch, message: ChunkMessage, epoch: int, seconds: float) -> None:
    """Write the metrics of a dispatch that took this many seconds. Do nothing outside Lambda.

    The only dimension is the function. The IDs are properties, which a log search can find. If they were dimensions,
    each value would be a metric of its own, and CloudWatch bills per metric.
    """
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return
    values = {
        **{f"Rows{verdict.capitalize()}": dispatch.done[verdict] for verdict in COMMITTED},
        "RowsNotCreated": len(dispatch.failures),
        "Calls": dispatch.calls.health.calls,
        "CallsUnanswered": dispatch.calls.health.calls_unanswered,
        "DispatchSeconds": round(seconds, 3),
    }
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName"]],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in UNITS.items()],
    }
    ids = {"job_id": message.job_id, "chunk_id": message.chunk_id, "epoch": epoch}
    embedded = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
    print(json.dumps({**embedded, "FunctionName": function, **values, **ids}), flush=True)  # noqa: T201 - EMF is read from stdout
