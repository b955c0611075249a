"""`python -m lambda_worker`: polls the queue and runs the handler where there is no AWS Lambda.

With `--probe USER`, it tries the create endpoints once instead. It exits with 0 if imports work, and with 1 otherwise.

Exit codes of the poller:
    0             SIGTERM or SIGINT, after the running invocations have ended
    1             an unexpected error
    2             wrong configuration
    128 + signal  a second signal, which ends the process at once
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bulk_import_wire.findings import Level
from bulk_import_wire.probe import ProbeRequest
from lambda_worker.config import ConfigurationError
from lambda_worker.poller.event_source import QueueError
from lambda_worker.poller.execution_environment import configure_logging
from lambda_worker.poller.poller import Options, Poller, PortInUseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

QUEUE_URL_VARIABLE = "BULK_IMPORT_QUEUE_URL"

MAX_CONCURRENCY = 1000  # Lambda's limit for MaximumConcurrency
MAX_BATCH_SIZE = 10  # SQS's limit for one ReceiveMessage call
MAX_FUNCTION_TIMEOUT_SECONDS = 900  # Lambda's limit
MAX_WAIT_SECONDS = 20  # SQS's limit for one long poll
MAX_PORT = 65535

EXIT_BROKEN = 1
EXIT_MISCONFIGURED = 2

ENDED = b"\0"
"""What the poller's thread writes to the socket of the signals when it ends. No signal has this number."""

logger = logging.getLogger("lambda_worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Poll in a second thread, so that the main thread can handle signals. Returns the exit code."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    if given.probe:
        return _probe(given)
    options = _to_options(parser, given)
    configure_logging(as_json=options.json_logs)
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="poller") as executor, received_signals() as (signals, notify):
        poller = executor.submit(_poll, options, stop)
        poller.add_done_callback(lambda _: notify.send(ENDED))
        is_stopping = False
        while (received := signals.recv(1)) != ENDED:
            name = signal.Signals(received[0]).name
            if is_stopping:
                logger.warning("%s received again: exiting at once", name)
                for environment in multiprocessing.active_children():
                    environment.kill()
                os._exit(128 + received[0])
            logger.info("%s received: stopping after the running invocations have ended", name)
            is_stopping = True
            stop.set()
    logger.info("stopped")
    return poller.result()


@contextmanager
def received_signals() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Provide a socket that receives the number of each SIGTERM and SIGINT as one byte, and the socket that sends it.

    Any thread can receive a signal. Python's handlers run in the main thread only, and a signal that another thread
    receives does not wake it. The socket gets the number in whichever thread the signal arrives.
    """
    signals, notify = socket.socketpair()
    with signals, notify:
        notify.setblocking(False)
        signal.set_wakeup_fd(notify.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        yield signals, notify
        signal.set_wakeup_fd(-1)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lambda_worker",
        description="Polls an SQS queue and runs a Lambda handler, as AWS's event source mapping does.",
        epilog="boto3 reads the AWS endpoint, region and credentials from its usual environment variables.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--queue-url", default=os.environ.get(QUEUE_URL_VARIABLE), help=f"URL of the queue; or set {QUEUE_URL_VARIABLE}"
    )
    parser.add_argument("--handler", default="lambda_worker.handler.handler", help="dotted path of the handler")
    parser.add_argument(
        "--concurrency",
        type=_from_to(1, MAX_CONCURRENCY),
        default=1,
        help="number of invocations that run at the same time",
    )
    parser.add_argument(
        "--batch-size", type=_from_to(1, MAX_BATCH_SIZE), default=1, help="maximum number of messages per invocation"
    )
    parser.add_argument(
        "--function-timeout",
        type=_from_to(1, MAX_FUNCTION_TIMEOUT_SECONDS),
        default=300,
        help="timeout of an invocation in seconds",
    )
    parser.add_argument(
        "--wait-seconds", type=_from_to(0, MAX_WAIT_SECONDS), default=20, help="duration of a long poll in seconds"
    )
    parser.add_argument(
        "--health-port",
        type=_from_to(0, MAX_PORT),
        default=0,
        help="port for GET /live and GET /ready; 0 disables them",
    )
    parser.add_argument("--json-logs", action="store_true", help="log one JSON object per line")
    probing = parser.add_argument_group(
        "probe",
        "Try the create endpoints as a user. The monolith rolls back what they write to databases. It cannot roll back "
        "other effects, such as emails.",
    )
    probing.add_argument("--probe", metavar="USER", help="name of the user; the other options here are for a probe")
    probing.add_argument("--target", default="", help="name of the target; all targets by default")
    probing.add_argument("--row", metavar="FILE", type=Path, help="JSON file with one row; one is generated by default")
    probing.add_argument(
        "--host", default="", help="host under which the user reaches the site; that of PUBLIC_URL by default"
    )
    return parser


def _probe(given: argparse.Namespace) -> int:
    """Print the findings of a probe. Returns the exit code."""
    from lambda_worker.handler import config  # noqa: PLC0415 - the poller's own process needs no HTTP client
    from lambda_worker.probe import probe  # noqa: PLC0415 - as above

    row = given.row.read_text() if given.row else ""
    try:
        findings = asyncio.run(probe(config(), ProbeRequest(given.probe, given.target, given.host, row)))
    except ConfigurationError as error:
        logger.error("%s", error)  # noqa: TRY400 - a traceback does not help to correct the configuration
        return EXIT_MISCONFIGURED
    for finding in findings:
        print(finding)  # noqa: T201 - the output of this command
    return EXIT_BROKEN if any(finding.level == Level.ERROR for finding in findings) else 0


def _to_options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Options:
    """Check the values that argparse cannot check. Exits with 2 if one is wrong."""
    if not given.queue_url:
        parser.error(f"the URL of the queue is missing: pass --queue-url or set {QUEUE_URL_VARIABLE}")
    if not all(given.handler.rpartition(".")):
        parser.error(f"--handler must be a dotted path like package.module.function: {given.handler}")
    return Options(
        queue_url=given.queue_url,
        handler=given.handler,
        concurrency=given.concurrency,
        batch_size=given.batch_size,
        function_timeout=given.function_timeout,
        wait_seconds=given.wait_seconds,
        health_port=given.health_port,
        json_logs=given.json_logs,
    )


def _from_to(minimum: int, maximum: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not (text.isdecimal() and minimum <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(f"expected a whole number from {minimum} to {maximum}, got {text}")
        return int(text)

    return whole_number


def _poll(options: Options, stop: threading.Event) -> int:
    try:
        Poller(options, stop).run()
    except (QueueError, PortInUseError) as error:
        logger.error("%s", error)  # noqa: TRY400 - a traceback does not help to correct the configuration
        return EXIT_MISCONFIGURED
    except Exception:
        logger.exception("stopped by an unexpected error")
        return EXIT_BROKEN
    return 0


if __name__ == "__main__":
    sys.exit(main())
