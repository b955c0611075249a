"""Fixtures for all tests, and the rule that CI must not skip a test."""

from __future__ import annotations

import gc
import logging
import os
from functools import cache
from typing import TYPE_CHECKING

import botocore.session
import pytest
from django.db import connections, transaction
from django.test import TransactionTestCase
from httpx._transports import default as httpx_transports
from hypothesis import HealthCheck, settings
from moto.server import ThreadedMotoServer

from bulk_import.local.moto_server import speed_up_requests
from tests.examples import is_postgresql

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Several parts of the tests run at the same time, so how long an example takes says nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

TABLES_OF_MIGRATIONS = {"django_content_type", "auth_permission"}
"""Tables that the migrations fill and that no test changes."""


def _empty_tables(case: TransactionTestCase) -> None:
    """Delete what a test committed. Django's `flush` would take four times as long, because it also creates all
    permissions again, and TRUNCATE creates new files on PostgreSQL.
    """
    for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        with transaction.atomic(alias), connections[alias].cursor() as cursor:
            for table in {*connections[alias].introspection.django_table_names()} - TABLES_OF_MIGRATIONS:
                cursor.execute(f'DELETE FROM "{table}"')  # noqa: S608 - the names of our models' tables


TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[attr-defined]
# Keep the connection for the next test. PostgreSQL starts a process for each new one.
TransactionTestCase._should_reload_connections = lambda _case: False  # type: ignore[attr-defined]

# Each new boto3 session reads the same files again, which takes 150 ms. Let all sessions share what was read.
botocore.session.create_loader = cache(botocore.session.create_loader)

# Each new client of httpx reads all certificates, which takes 15 ms. No test sends a request with TLS through it.
httpx_transports.create_ssl_context = cache(httpx_transports.create_ssl_context)  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all stacks of the tests start with a copy of the first one's database."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREPARED_SQLITE", str(tmp_path_factory.mktemp("prepared") / "db.sqlite3"))
        yield


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """Start a moto server for S3 and SQS and return its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    speed_up_requests()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a skipped test as failed if BULK_IMPORT_NO_SKIPS is set, as in CI."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("BULK_IMPORT_NO_SKIPS"):
        report.outcome = "failed"
    return report


DATABASE_FIXTURES = {"db", "transactional_db", "live_server", "shop"}
"""Fixtures of tests that use the database. The shop of `test_pipeline.py` is a process, which uses DATABASE_URL."""


def runs_on_postgresql(item: pytest.Item) -> bool:
    """Return whether a test can give another result on PostgreSQL than on SQLite."""
    uses_database = DATABASE_FIXTURES.intersection(getattr(item, "fixturenames", ()))
    return bool(uses_database or item.get_closest_marker("django_db")) and not item.get_closest_marker("one_database")


# Collect garbage less often, also while pytest imports all tests. They have enough memory.
gc.set_threshold(50_000, 20, 100)


def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL, leave out the tests that need no database, or any. They run in the other parts, with SQLite."""
    if is_postgresql():
        config.hook.pytest_deselected(items=[item for item in items if not runs_on_postgresql(item)])
        items[:] = filter(runs_on_postgresql, items)
