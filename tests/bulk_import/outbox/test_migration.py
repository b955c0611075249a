"""Migration 0003 moves the emails and webhooks that were pending before it to the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, AFTER = ("bulk_import", "0002_finished_rows_before"), ("bulk_import", "0003_delivery")


def migrate(target: tuple[str, str]) -> Any:
    """Migrate to this state, and return its models."""
    executor = MigrationExecutor(connection)
    executor.migrate([target])
    return executor.loader.project_state([target]).apps


CASES: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    ("", {"mail_due_at": True}, [("email", "submitter")]),
    ("ana@x.example,bo@x.example", {"mail_due_at": True, "mailed": [0, 2]}, [("email", "ana@x.example")]),
    ("none", {"mail_due_at": True}, []),
    ("", {"webhook_due_at": True}, [("webhook", "")]),
    ("", {"mail_due_at": True, "webhook_due_at": True}, [("email", "submitter"), ("webhook", "")]),
    ("", {"signal_due_at": True, "mailed": [0]}, []),
]
"""Recipients of a job, the columns of its event before the migration, and the deliveries after it."""


@pytest.fixture
def models_before() -> Iterator[Any]:
    yield migrate(BEFORE)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_pending_deliveries_are_moved(models_before: Any, merchandiser: Any) -> None:
    """One test for all cases, because the migrations take longer than everything else."""
    now = timezone.now()
    jobs, events = (models_before.get_model("bulk_import", name).objects for name in ("ImportJob", "ImportEvent"))
    stored = []
    for notify, columns, _ in CASES:
        job = jobs.create(target="products", submitter_id=merchandiser.pk, rows=1, request_sha256=b"", notify=notify)
        fields = {name: now if value is True else value for name, value in columns.items()}
        stored.append(events.create(job=job, kind="ended", **fields).pk)

    deliveries = migrate(AFTER).get_model("bulk_import", "Delivery").objects.order_by("pk")
    moved = [list(deliveries.filter(event=event).values_list("channel", "recipient")) for event in stored]
    assert moved == [expected for _, _, expected in CASES]
    assert {delivery.due_at for delivery in deliveries} <= {now}
