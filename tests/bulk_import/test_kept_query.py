"""Queries whose SQL is kept: they return what the ORM returns, with the values of each call, in every thread."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.db.models import Count
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bulk_import.models import ImportJob
from bulk_import.models.kept_query import Parameter, kept_query
from tests.bulk_import.conftest import in_threads, post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from tests.bulk_import.conftest import Aws

COLUMNS = ("reading", "chunks_of_job", "id", "cancel_requested_at", "created_at")


def jobs(since: Any) -> Any:
    """Return columns of several types, not in the order in which the model or the annotation has them."""
    later = ImportJob.objects.filter(created_at__gt=since)
    return later.annotate(chunks_of_job=Count("chunks")).order_by("created_at").values_list(*COLUMNS)


@pytest.mark.django_db
def test_a_kept_query_returns_what_the_orm_returns(client_of_merchandiser: APIClient, aws: Aws) -> None:
    for sku in "AB":
        post_rows(client_of_merchandiser, [product(sku)])
    ImportJob.objects.filter(rows=1).update(reading={"delimiter": ";"})
    first, second = ImportJob.objects.order_by("created_at")
    builds = []

    @kept_query
    def kept() -> Any:
        builds.append(1)
        return jobs(Parameter("since", ImportJob._meta.get_field("created_at")))

    in_threads(lambda: kept(since=timezone.now()))  # so it is built with a connection that is closed afterwards

    for since in (first.created_at - timedelta(seconds=1), first.created_at, second.created_at, timezone.now()):
        with CaptureQueriesContext(connection) as queries:
            assert kept(since=since) == list(jobs(since))
        assert len(queries) == 2
    assert len(kept(since=first.created_at)) == len(builds) == 1
