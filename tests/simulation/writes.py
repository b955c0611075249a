"""Records in the database every committed change of a category, so that the checks can compare it with the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.audited import Audited
    from tests.simulation.world import World

EDIT = "edit-"
"""How the values begin that people write without an import."""

_TABLE = """
CREATE TABLE simulation_write (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, object_id TEXT, name TEXT, value TEXT, record INTEGER);
"""

_TRIGGER = """
CREATE TRIGGER simulation_KIND AFTER STATEMENT ON products_category BEGIN
INSERT INTO simulation_write (kind, object_id, name, value, record) VALUES
('KIND', ROW.id, ROW.name, ROW.slug, (SELECT coalesce(max(id), 0) FROM bulk_import_importedrow)); END;
"""

TRIGGERS = _TABLE + "".join(
    _TRIGGER.replace("KIND", kind).replace("STATEMENT", statement).replace("ROW", row)
    for kind, statement, row in [
        ("created", "INSERT", "new"),
        ("updated", "UPDATE", "new"),
        ("deleted", "DELETE", "old"),
    ]
)
"""Records each change with the newest ledger record: that of the row which made the change. A rollback removes both."""


@dataclass(frozen=True, slots=True)
class Write:
    """A committed change of a category. `record` is the ID of the newest ledger record at that moment."""

    kind: str  # created, updated or deleted
    object_id: str
    name: str
    value: str
    record: int

    @property
    def is_edit(self) -> bool:
        """Whether a person made the change, without an import."""
        return self.value.startswith(EDIT) and self.kind == "updated"


@dataclass(frozen=True, slots=True)
class Record:
    """A ledger record."""

    id: int
    audited: Audited
    index: int
    outcome: str
    object_id: str

    @property
    def name(self) -> str:
        return self.audited.job.rows[self.index].name

    @property
    def value(self) -> str:
        return str(self.audited.job.rows[self.index].body.get("slug", ""))


def read_writes(world: World) -> list[Write]:
    """Return all changes, in the order of their commits."""
    return [
        Write(*row)
        for row in world.sql("SELECT kind, object_id, name, value, record FROM simulation_write ORDER BY id")
    ]


def read_records(world: World) -> Iterator[Record]:
    """Yield the ledger records of the categories that no rehearsal wrote, in the order of their commits."""
    by_id = {audited.hex_id: audited for audited in world.audited}
    for record_id, job_id, *columns in world.sql(
        'SELECT id, job_id, "index", outcome, object_id FROM bulk_import_importedrow ORDER BY id'
    ):
        audited = by_id[job_id]
        if audited.job.target == "categories" and not audited.job.rehearse:
            yield Record(record_id, audited, *columns)
