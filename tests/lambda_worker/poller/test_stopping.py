"""How the poller stops, and what its health endpoints report."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from bulk_import.local.processes import free_port
from tests.lambda_worker.poller.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lambda_worker.poller.conftest import Queue, RunningPoller


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_on_a_signal_the_running_invocation_finishes_and_no_message_is_received(
    queue: Queue, start: Callable[..., RunningPoller], number: signal.Signals
) -> None:
    """The handler's process ignores the signal. The poller deletes the message and exits with 0."""
    queue.send(do="wait")
    poller = start()
    until(lambda: poller.notes("waiting"))
    queue.send(do="nothing")

    poller.signal_group(number)
    poller.logs("stopping")
    (poller.directory / "go").touch()

    assert poller.exit_code() == 0
    assert queue.counts() == (1, 0)


def test_a_signal_that_another_thread_receives_stops_the_poller(start: Callable[..., RunningPoller]) -> None:
    """The operating system chooses the thread. It prefers the one whose ID the sender gives."""
    poller = start()
    poller.logs("ready")

    poller.signal_thread(signal.SIGTERM)

    assert poller.exit_code() == 0


def test_a_second_signal_ends_the_poller_at_once(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The invocation is killed. SQS redelivers its message later."""
    queue.send(do="hang")
    poller = start()
    until(lambda: poller.notes("pid"))

    poller.signal_group(signal.SIGTERM)
    poller.logs("stopping")
    poller.signal_group(signal.SIGTERM)

    assert poller.exit_code() == 128 + signal.SIGTERM
    assert queue.counts() == (0, 1)


def test_a_message_received_after_the_signal_is_returned_to_the_queue_at_once(
    queue: Queue, start: Callable[..., RunningPoller]
) -> None:
    """The long poll that was running when the signal came can still receive a message."""
    poller = start(wait_seconds=20)
    poller.logs("ready")

    poller.signal_group(signal.SIGTERM)
    poller.logs("stopping")
    message_id = queue.send(do="nothing")

    assert poller.exit_code() == 0
    assert f"returned to the queue message={message_id}" in poller.log
    assert queue.counts() == (1, 0)
    assert not poller.notes("event")


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_killed_poller_leaves_no_process(queue: Queue, start: Callable[..., RunningPoller], busy: bool) -> None:
    """The handler's process ends with the poller, even during an invocation."""
    poller = start()
    if busy:
        queue.send(do="hang")
        until(lambda: poller.notes("pid"))
    poller.logs("ready")

    poller.kill_parent()

    assert poller.exit_code() == -signal.SIGKILL


def status(port: int, path: str) -> int | None:
    """Return the status of the response, or None if there is no response."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code
    except httpx.TransportError:
        return None


def test_the_health_endpoints_report_ready_and_stopping(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    port = free_port()
    poller = start(health_port=port)
    until(lambda: status(port, "/ready") == 200)
    assert status(port, "/live") == 200
    assert status(port, "/") == 404

    queue.send(do="wait")
    until(lambda: poller.notes("waiting"))
    poller.signal_group(signal.SIGTERM)
    until(lambda: status(port, "/ready") == 503)

    assert status(port, "/live") == 200, "the invocation still runs"
    (poller.directory / "go").touch()
    assert poller.exit_code() == 0


def test_a_poller_that_cannot_reach_sqs_is_alive_but_not_ready(start: Callable[..., RunningPoller]) -> None:
    port = free_port()
    poller = start(endpoint="http://127.0.0.1:9", health_port=port)
    poller.logs("SQS is unreachable")

    assert (status(port, "/live"), status(port, "/ready")) == (200, 503)


def test_a_health_port_that_is_in_use_is_an_error(start: Callable[..., RunningPoller]) -> None:
    with socket.create_server(("", 0)) as taken:
        poller = start(health_port=taken.getsockname()[1])

        assert poller.exit_code() == 2
