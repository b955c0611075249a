"""Reads .xlsx, .xls and .ods files with python-calamine, in a process that is limited in memory and time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from django.utils.translation import gettext as _
from rest_framework.exceptions import UnsupportedMediaType

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.spreadsheets import workbook_process
from bulk_import.intake.spreadsheets.records import Record
from bulk_import.intake.upload_limits import check_values, max_lines, too_many_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_BYTES = 512 * 1024 * 1024
"""Memory that the process may use. A workbook of 100,000 rows and 9 columns needs half of it."""

PROCESSOR_SECONDS = 20
"""Processor time that the process may use. A workbook of 100,000 rows and 9 columns needs a tenth of it."""

OUTPUT_GROWTH = 2
"""Maximum size of the rows that the process writes, as a multiple of MAX_BODY_BYTES."""

ROW_DECODER = msgspec.json.Decoder(tuple[int, list[str | int | float | bool | dict[str, str] | None]])


class WorkbookSource:
    """The records of one sheet. Another process reads the file; its rows stay in memory."""

    def __init__(self, body: bytes, sheet: str) -> None:
        """Read the sheet with this name or number. Raises BadImport, BodyTooLarge and UnsupportedMediaType."""
        if find_spec("python_calamine") is None:
            message = _("This site does not read files of Excel and LibreOffice. Save the file as “CSV UTF-8”.")
            raise UnsupportedMediaType("", message)
        about, _newline, self._rows = read_rows(body, sheet).partition(b"\n")
        self._about: dict[str, Any] = json.loads(about)
        if "error" in self._about:
            raise workbook_error(self._about)

    def describe(self) -> dict[str, Any]:
        return {"format": "spreadsheet", **self._about}

    @staticmethod
    def read_cell(cell: Any) -> Any:
        return cell

    def records(self) -> Iterator[Record]:
        """Yield the rows that are not blank. Raises BodyTooLarge if there are too many rows or cells."""
        limit, cells = max_lines(), 0
        for rows, line in enumerate(io.BytesIO(self._rows)):
            number, row = ROW_DECODER.decode(line)
            cells += len(row)
            check_values(cells, rows)
            if number > limit:
                raise too_many_lines()
            yield Record(number, row)


def read_rows(body: bytes, sheet: str) -> bytes:
    """Return the lines that `workbook_process` writes. Raises BodyTooLarge if its limits do not suffice."""
    limits = [MEMORY_BYTES, PROCESSOR_SECONDS, OUTPUT_GROWTH * conf().max_body_bytes]
    command = [python(), "-P", workbook_process.__file__, *map(str, limits), sheet]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    folder = settings.FILE_UPLOAD_TEMP_DIR
    # Files instead of pipes: the system ends the process if it writes more than it may.
    with TemporaryFile(dir=folder) as workbook, TemporaryFile(dir=folder) as rows:
        workbook.write(body)
        workbook.seek(0)
        ended = subprocess.run(  # noqa: S603 - only the sheet comes from the client, and it is an argument of its own
            command, stdin=workbook, stdout=rows, stderr=subprocess.DEVNULL, env=environment, check=False
        )
        rows.seek(0)
        if ended.returncode == 0:
            return rows.read()
    message = _("This file needs too much memory or time to be read. Split it, or save it as “CSV UTF-8”.")
    raise BodyTooLarge(message, code="workbook_too_large")


def python() -> str:
    """Return the path of Python's interpreter. In some application servers, `sys.executable` is the server."""
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.prefix) / "bin" / "python3")


def workbook_error(about: dict[str, Any]) -> BadImport:
    """Return the error that the first line of the process reports."""
    sheets = about.get("sheets", [])
    names = ", ".join(f"“{name}”" for name in sheets)
    match about["error"]:
        case "password":
            message = _("This file is protected with a password. Remove the password, and send the file again.")
            return BadImport(message, code="workbook_password")
        case "empty":
            message = _("This file is empty. Send a header row with the names of the columns, and at least one row.")
            return BadImport(message, code="empty_body")
        case "sheet":
            message = _("This file has several sheets. Choose one of them with “sheet”: %(sheets)s.")
            return BadImport(message % {"sheets": names}, code="choose_sheet", sheets=sheets)
        case "no_sheet":
            message = _("This file has no such sheet. Choose one of them with “sheet”: %(sheets)s.")
            return BadImport(message % {"sheets": names}, code="choose_sheet", sheets=sheets)
        case "too_large":
            message = _("This sheet has too many columns. Delete the columns that are not needed.")
            return BodyTooLarge(message, code="too_many_values")
    message = _("This file cannot be read: it is damaged, or not a workbook. Save it again, or as “CSV UTF-8”.")
    return BadImport(message, code="workbook_damaged")
