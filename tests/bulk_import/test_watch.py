"""`manage.py bulk_import --watch` says why an import does not proceed."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from bulk_import.management.commands import bulk_import as command
from bulk_import.management.progress import read_job
from bulk_import.models import ImportJob, JobStatus
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.conftest import product

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from tests.bulk_import.conftest import Aws


@pytest.mark.django_db(transaction=True)
def test_it_says_that_no_worker_has_started_and_why_the_import_is_paused(
    aws: Aws, merchandiser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(job_id: UUID) -> Iterator[ImportJob]:
        for _ in range(command.WAITING_POLLS + 2):
            yield read_job(job_id)
        ImportJob.objects.update(status=JobStatus.PAUSED, pause_code=PauseCode.FORBIDDEN)
        yield read_job(job_id)
        yield read_job(job_id)

    monkeypatch.setattr(command, "follow", follow)
    file, errors = tmp_path / "products.json", StringIO()
    file.write_text(json.dumps([product("A")]))

    with pytest.raises(CommandError):
        call_command(
            "bulk_import", str(file), user=merchandiser.get_username(), watch=True, stdout=StringIO(), stderr=errors
        )

    assert errors.getvalue().count("manage.py bulk_import_local") == 1
    assert errors.getvalue().count("is paused because") == 1
