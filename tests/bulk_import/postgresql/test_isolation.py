"""The doctor asks PostgreSQL for the isolation level, wherever it is set."""

from __future__ import annotations

import pytest
from django.db import connection

from bulk_import.doctor.monolith import examine_database
from bulk_import_wire.findings import Finding, Level


def examined(level: str) -> list[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION default_transaction_isolation = %s", [level])
    try:
        return [finding for finding in examine_database() if finding.level != Level.OK]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET default_transaction_isolation")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_doctor_reports_the_isolation_level_that_the_database_uses(level: str) -> None:
    (finding,) = examined(level)

    assert (finding.level, level in finding.message) == (Level.ERROR, True)
    assert examined("read committed") == []
