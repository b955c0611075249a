"""No cell of a file is silently read as something that it does not mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpRequest
from rest_framework.request import Request

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport
from bulk_import.intake.request_body import as_upload
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.intake.spreadsheets.table import Table
from tests.bulk_import.intake.spreadsheets.excel_files import EXCEL_FILES, File
from tests.bulk_import.intake.spreadsheets.other_files import OTHER_FILES

FILES = {**EXCEL_FILES, **OTHER_FILES}


def read(file: File) -> Any:
    plain = HttpRequest()
    plain.method = "POST"
    upload = as_upload("text/csv", "", file.body, ReadingOptions(**file.options))
    return upload.rows(conf().target("products"), Request(plain))


@pytest.mark.parametrize("name", FILES)
def test_a_file_means_what_its_table_says(name: str) -> None:
    file = FILES[name]
    if file.error:
        with pytest.raises(BadImport) as refused:
            list(read(file))
        assert refused.value.code == file.error
        return
    table = read(file)
    rows = list(table)

    assert [json.loads(row.json) for row in rows] == file.rows
    unread = [(row.line, error["field"], error["code"]) for row in rows for error in row.errors]
    assert unread == file.unread
    assert not isinstance(table, Table) or table.reading["ignored"] == file.ignored
