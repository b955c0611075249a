"""Handlers that misbehave on demand, run by the poller under test in its child processes.

They talk to the test through files in the directory SAMPLE_DIRECTORY.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_worker.events import LambdaContext, SqsEvent

DIRECTORY = Path(os.environ["SAMPLE_DIRECTORY"])


def note(**what: object) -> None:
    """Append a line to the file that the test reads. One write per line keeps lines of several processes apart."""
    with (DIRECTORY / "notes.jsonl").open("a") as notes:
        notes.write(json.dumps(what) + "\n")


def behave(event: SqsEvent, context: LambdaContext) -> Any:
    """Do with each message what its body says, until it was delivered "times" times. After that, succeed."""
    note(pid=os.getpid(), request_id=context.aws_request_id, event=event)
    failures: list[dict[str, str]] = []
    for record in event["Records"]:
        order = json.loads(record["body"])
        if int(record["attributes"]["ApproximateReceiveCount"]) > order.get("times", 1):
            continue
        match order["do"]:
            case "fail":
                failures.append({"itemIdentifier": record["messageId"]})
            case "answer":
                return order.get("answer", object())  # an object that JSON cannot represent
            case "raise":
                raise RuntimeError
            case "exit":
                sys.exit(3)
            case "crash":
                os._exit(7)
            case "hang":
                time.sleep(600)
            case "wait":
                wait_for_go(record["messageId"])
    return {"batchItemFailures": failures}


def wait_for_go(message_id: str) -> None:
    note(waiting=message_id)
    while not (DIRECTORY / "go").exists():
        time.sleep(0.02)


def tell_context(_event: SqsEvent, context: LambdaContext) -> None:
    remaining = [context.get_remaining_time_in_millis()]
    time.sleep(0.01)
    remaining.append(context.get_remaining_time_in_millis())
    note(
        context={
            "aws_request_id": context.aws_request_id,
            "function_name": context.function_name,
            "function_version": context.function_version,
            "memory_limit_in_mb": context.memory_limit_in_mb,
            "invoked_function_arn": context.invoked_function_arn,
            "remaining": remaining,
        }
    )
