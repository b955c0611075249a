"""The load of the shop: how much slower a process serves its other requests than in quiet times."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models.signals import post_save
from django.test import AsyncClient, Client, RequestFactory

from bulk_import import shop_load
from bulk_import.file_lock import FileLock
from bulk_import.middleware import ImportedRowMiddleware
from bulk_import.models import ImportedRow
from bulk_import.shop_load import RECENT_SECONDS, ShopLoad
from bulk_import_wire.contract import LOAD_HEADER, UNUSED, VERDICT_HEADER
from demo.stack import PROJECT
from products.models import Product
from tests.bulk_import.conftest import Aws, claim, post_rows, product

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django import Settings
    from rest_framework.test import APIClient


class Process:
    """A process of the shop whose clock is moved by hand. It is alone on its machine."""

    def __init__(self) -> None:
        self.now = 0.0
        self.load = ShopLoad(clock=lambda: self.now, sleep=self.sleep, shared_file="")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def serve(self, seconds: float, route: str = "products/", method: str = "GET") -> None:
        """Serve one request that is not a worker's."""
        request: Any = SimpleNamespace(resolver_match=SimpleNamespace(route=route), method=method)
        began_at = self.load.begin_request()
        self.now += seconds
        self.load.end_request(request, began_at)

    def create(self) -> float:
        """Answer a create call that takes no time, and return the load in its answer."""
        self.load.begin_create()
        return round(self.load.end_create(), 2)

    def wait(self) -> float:
        """Answer a create call, and return for how many seconds it gave way."""
        began_at = self.now
        self.create()
        return self.now - began_at

    def import_while_serving(self, seconds: float, requests: int = 50) -> float:
        """Serve requests that take so long while an import runs, and return the last load."""
        for _request in range(requests):
            self.create()
            self.serve(seconds)
        return self.create()


@pytest.fixture
def process() -> Process:
    """A process that has served pages of 10 ms and of 1 s in quiet times."""
    process = Process()
    for _request in range(100):
        process.serve(0.01)
        process.serve(1, route="reports/")
    return process


@pytest.mark.parametrize(("seconds", "load"), [(0.005, 0), (0.01, 0), (0.013, 0.3), (0.02, 1), (0.2, 1)])
def test_the_load_says_how_much_slower_the_other_requests_are(process: Process, seconds: float, load: float) -> None:
    assert process.import_while_serving(seconds) == pytest.approx(load, abs=0.02)


def test_a_page_is_compared_with_itself_and_not_with_faster_pages(process: Process) -> None:
    for _request in range(50):
        process.create()
        process.serve(1, route="reports/")

    assert process.create() == 0


def test_a_request_that_is_slow_by_chance_causes_little_load(process: Process) -> None:
    process.import_while_serving(0.01)
    process.serve(30)

    assert process.create() == pytest.approx(0.1, abs=0.01)


def test_a_shop_that_nobody_uses_says_so(process: Process) -> None:
    assert process.import_while_serving(0.02) > 0.9
    process.now += RECENT_SECONDS

    assert process.create() == UNUSED
    assert process.import_while_serving(0.01, requests=1) == 0  # the slow requests are no longer recent


def test_requests_during_an_import_do_not_change_what_quiet_times_are(process: Process) -> None:
    assert process.import_while_serving(0.015, requests=1000) == pytest.approx(0.5, abs=0.02)


def test_a_process_that_started_during_an_import_reports_no_load() -> None:
    assert Process().import_while_serving(0.5) == 0


def test_a_lasting_change_becomes_the_new_normal_in_quiet_times(process: Process) -> None:
    process.now += 10
    for _request in range(50):
        process.serve(0.015)

    assert process.import_while_serving(0.015) == pytest.approx(0, abs=0.02)


def test_methods_that_a_client_made_up_are_not_stored(process: Process) -> None:
    known = len(process.load._quiet_seconds)
    for number in range(100):
        process.serve(0.01, method=f"METHOD{number}")

    assert len(process.load._quiet_seconds) == known


class PreemptedLoad(ShopLoad):
    """Lets another thread run whenever a counter was read and is about to be written."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name in {"_requests", "_creates"}:
            time.sleep(0.0001)
        return value


def test_no_request_is_lost_or_counted_twice_by_several_threads() -> None:
    """A request that were lost would count as in flight forever, and the load would never become zero."""
    process = Process()
    process.load = PreemptedLoad(shared_file="")

    def work() -> None:
        for _request in range(10):
            process.serve(0)
            process.create()

    threads = [threading.Thread(target=work) for _thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (process.load._requests, process.load._creates) == (0, 0)


def test_a_create_call_gives_way_to_a_request_in_flight(process: Process) -> None:
    began_at = process.load.begin_request()
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            process.load.end_request(RequestFactory().get("/"), began_at)

    process.load._sleep = sleep
    process.load.begin_create()

    assert len(waits) == 3


def test_ever_fewer_create_calls_wait_for_a_request_that_takes_long(process: Process) -> None:
    process.load.begin_request()

    waited = [number for number in range(1, 300) if process.wait() > shop_load.MAX_WAIT_SECONDS / 2]

    assert waited == [1, 3, 7, 15, 31, 63, 127, 191, 255]


def test_create_calls_wait_for_short_requests_again_after_one_that_took_long(process: Process) -> None:
    """The shop serves pages that take 5 ms, with 2 ms between two of them. The first page takes longer."""
    changes = [1.0, *[0.002, 0.005] * 300]  # seconds until the next end, beginning, end, ...
    served = [process.load.begin_request()]
    next_change = process.now + changes.pop(0)

    def sleep(seconds: float) -> None:
        nonlocal next_change
        process.now += seconds
        if process.now < next_change:
            return
        if served:
            process.load.end_request(RequestFactory().get("/"), served.pop())
        else:
            served.append(process.load.begin_request())
        next_change += changes.pop(0)

    process.load._sleep = sleep
    competed = []
    while changes:
        process.load.begin_create()
        competed.append(bool(served))
        sleep(0.001)
        process.load.end_create()

    assert all(competed[:100])  # the import went on during the long request
    assert not any(competed[-100:])


def test_a_create_call_always_lets_other_threads_run(process: Process) -> None:
    process.now += RECENT_SECONDS

    assert process.wait() == pytest.approx(shop_load.PAUSE_SECONDS)


OTHER_PROCESS = """
import os, signal, sys
from django.test import RequestFactory
from bulk_import.shop_load import ShopLoad

load = ShopLoad(shared_file=sys.argv[1])
began_at = load.begin_request()
if os.fork() == 0:  # a program that the request starts, and that outlives it
    print("serving", flush=True)
    signal.pause()
sys.stdin.readline()
load.end_request(RequestFactory().get("/"), began_at)
print("idle", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("end", ["answers", "is killed"])
def test_a_create_call_gives_way_to_a_request_of_another_process(tmp_path: Path, end: str) -> None:
    """The other process has a child that goes on after its end."""
    shared_file = tmp_path / "shared"
    shared_file.touch()
    command = [sys.executable, "-c", OTHER_PROCESS, str(shared_file)]
    waits: list[float] = []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=PROJECT, start_new_session=True) as other:
        assert other.stdout

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) != 3:
                return
            if end == "answers":
                print(file=other.stdin, flush=True)
                assert other.stdout
                assert other.stdout.readline() == "idle\n"
            else:
                other.kill()
                other.wait()

        try:
            assert other.stdout.readline() == "serving\n"
            ShopLoad(lambda: sum(waits), sleep, str(shared_file)).begin_create()
        finally:
            os.killpg(other.pid, signal.SIGKILL)  # also the child

    assert len(waits) == 3


def test_a_file_that_cannot_be_locked_makes_nobody_wait(tmp_path: Path) -> None:
    lock = FileLock(str(tmp_path / "library.zip" / "shop_load.py"))

    assert lock.acquire(shared=True)
    assert FileLock(str(tmp_path / "library.zip" / "shop_load.py")).acquire()
    lock.release()


def test_a_lock_whose_file_was_closed_makes_no_request_fail(tmp_path: Path) -> None:
    """A program that becomes a daemon closes all files of its process."""
    shared_file = tmp_path / "shared"
    shared_file.touch()
    lock = FileLock(str(shared_file))
    lock.acquire(shared=True)
    assert lock._descriptor is not None
    os.close(lock._descriptor)

    lock.release()

    assert lock.acquire(shared=True)


def test_a_lock_that_nobody_needs_any_more_is_forgotten(tmp_path: Path) -> None:
    known = weakref.ref(FileLock(str(tmp_path)))

    assert known() is None


# --- in the middleware


@pytest.fixture(autouse=True)
def _process_without_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImportedRowMiddleware, "shop_load", ShopLoad(shared_file=""))


@pytest.fixture
def create_call(client_of_merchandiser: APIClient, worker: APIClient, aws: Aws) -> dict[str, Any]:
    """The create call of the only row of a job, as arguments of a client."""
    rows = [product("A")]
    job_id = post_rows(client_of_merchandiser, rows).json()["id"]
    (message,) = aws.messages()
    headers = {"Authorization": f"Import {claim(worker, message).token}", "Idempotency-Key": f"{job_id}:0"}
    body = aws.payload(message.key).strip()
    return {"path": "/products/", "data": body, "content_type": "application/json", "headers": headers}


def test_a_request_that_raises_or_whose_client_disconnects_is_not_in_flight_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_arguments: Any) -> Any:
        raise RuntimeError("a bug")

    async def hang(_request: Any) -> Any:
        await asyncio.Event().wait()

    async def disconnect(request: Any) -> None:
        serving = asyncio.create_task(hanging(request))
        await asyncio.sleep(0)
        serving.cancel()  # so Django's ASGI handler does when the client disconnects
        await asyncio.gather(serving, return_exceptions=True)

    failing, hanging = ImportedRowMiddleware(fail), ImportedRowMiddleware(hang)
    monkeypatch.setattr(failing, "_handle_create", fail)
    page = RequestFactory().get("/")
    create = RequestFactory().post("/", headers={"Authorization": "Import token"})
    for request in (page, create):
        with pytest.raises(RuntimeError):
            failing(request)
    asyncio.run(disconnect(page))

    for load in (failing.shop_load, hanging.shop_load):
        assert (load._requests, load._creates) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_only_create_calls_get_the_load_and_only_with_the_setting(
    create_call: dict[str, Any], settings: Settings
) -> None:
    ordinary = Client().get("/products/")
    created = Client().post(**create_call)
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "REPORT_LOAD": False}
    replayed = Client().post(**create_call)

    assert [answer.get(VERDICT_HEADER) for answer in (ordinary, created, replayed)] == [None, "created", "replayed"]
    assert [answer.get(LOAD_HEADER) for answer in (ordinary, created, replayed)] == [None, "0.00", None]


@pytest.mark.django_db(transaction=True)
def test_under_asgi_create_calls_get_the_load_and_other_requests_are_served(
    create_call: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []  # the threads in which a create call gives way
    load = ShopLoad(sleep=lambda _seconds: waiting.append(threading.get_ident()), shared_file="")
    monkeypatch.setattr(ImportedRowMiddleware, "shop_load", load)

    async def serve() -> list[Any]:
        client = AsyncClient()
        answers = [await client.get("/products/"), await client.post(**create_call), await client.post(**create_call)]
        await sync_to_async(connections.close_all)()
        return answers

    answers = asyncio.run(serve())

    assert [answer.get(VERDICT_HEADER) for answer in answers] == [None, "created", "replayed"]
    assert [answer.get(LOAD_HEADER) for answer in answers] == [None, "0.00", "0.00"]
    assert Product.objects.count() == 1
    assert len(waiting) == 2
    assert threading.get_ident() not in waiting  # the event loop of this thread goes on


@pytest.mark.django_db(transaction=True)
def test_under_asgi_the_row_and_its_ledger_record_are_in_one_transaction(create_call: dict[str, Any]) -> None:
    """The view runs in another coroutine than the middleware, but must use the same database connection."""

    def fail(**_signal: Any) -> None:
        raise RuntimeError("the shop's own bug")

    async def serve() -> Any:
        answer = await AsyncClient(raise_request_exception=False).post(**create_call)
        await sync_to_async(connections.close_all)()
        return answer

    post_save.connect(fail, sender=Product)
    try:
        answer = asyncio.run(serve())
    finally:
        post_save.disconnect(fail, sender=Product)

    assert (answer.status_code, answer[VERDICT_HEADER]) == (500, "not-created")
    assert (Product.objects.count(), ImportedRow.objects.count()) == (0, 0)
