"""One row of a job: its chunk, outcome, attempts, object and errors. Staff ask for it with `?row=17`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import.models.row import line_at
from bulk_import.models.status import OUTCOME_LABELS, PENDING_ROWS
from bulk_import.reports.problems import error_text
from bulk_import.storage.failures import read_failure
from bulk_import_wire.lines import read_failure_line

if TYPE_CHECKING:
    from bulk_import.models import ImportJob

MAX_DIGITS = 10
"""Maximum length of an index. Longer numbers do not fit into the column."""


def row_report(job: ImportJob, text: str) -> dict[str, Any]:
    """Return what is known about the row whose index is `text`, or an `error` for people.

    The failures file is read only if the ledger does not have the row.
    """
    is_index = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS and int(text) < job.rows
    if not is_index:
        return {"error": _("There is no row with this index. The first row has the index 0.")}
    index = int(text)
    chunk = job.chunks.filter(first_index__lte=index).order_by("-first_index").first()
    report: dict[str, Any] = {"index": index, "chunk": chunk, "outcome": OUTCOME_LABELS[PENDING_ROWS]}
    if chunk:
        report["line"] = line_at(chunk.read_lines(), index - chunk.first_index)
    if imported := job.imported_rows.filter(index=index).first():
        return report | {"outcome": imported.get_outcome_display(), "object_id": imported.object_id}
    try:
        line = read_failure(job, index)
    except (Expired, StorageUnavailable) as error:
        return report | {"error": str(error)}
    if line is None:
        return report
    failure, row = read_failure_line(line)
    return report | {
        "outcome": OUTCOME_LABELS[failure["outcome"]],
        "attempts": failure["attempts"],
        "http_status": failure["status"],
        "reasons": [error_text(error) for error in failure["errors"]],
        "row": row,
    }
