"""What happened to the products: triggers record every committed change, and the ledger record of its transaction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from tests.chaos.jobs import Job
    from tests.chaos.shop import Shop

APPLICATION = "chaos"
"""`application_name` of the connection with which people change products without an import."""

TRIGGERS = """
CREATE TABLE chaos_write (
  id bigserial PRIMARY KEY, txid bigint, is_edit boolean, "table" text, kind text, owner text, before jsonb, after jsonb
);
CREATE INDEX ON chaos_write (owner text_pattern_ops);
CREATE INDEX ON chaos_write (txid);
CREATE FUNCTION chaos_write() RETURNS trigger AS $$
DECLARE
  before jsonb := CASE WHEN TG_OP != 'INSERT' THEN to_jsonb(OLD) END;
  after jsonb := CASE WHEN TG_OP != 'DELETE' THEN to_jsonb(NEW) END;
  content jsonb := coalesce(after, before);
BEGIN
  INSERT INTO chaos_write (txid, is_edit, "table", kind, owner, before, after) VALUES (
    txid_current(), current_setting('application_name') = 'chaos', TG_TABLE_NAME, TG_OP,
    coalesce(content->>'job_id', content->>'sku'), before, after
  );
  RETURN NULL;
END; $$ LANGUAGE plpgsql;
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'chaos_%'
    AND (tablename NOT LIKE 'bulk_import_%' OR tablename = 'bulk_import_importedrow')
  LOOP
    EXECUTE format('CREATE TRIGGER chaos_write AFTER INSERT OR UPDATE OR DELETE ON %I'
      ' FOR EACH ROW EXECUTE FUNCTION chaos_write()', name);
  END LOOP;
END; $$;
"""
"""Record each change of a table that is not ours, and of the ledger. A rollback removes the record with the change.

`owner` is the SKU of a product, or the job of a ledger record.
"""

WRITES = """
SELECT id, txid, is_edit, "table", kind, before, after FROM chaos_write WHERE txid IN (
  SELECT txid FROM chaos_write WHERE owner = ANY(%s) OR owner LIKE %s
) ORDER BY id
"""

KINDS = {"INSERT": "created", "UPDATE": "updated", "DELETE": "deleted"}


class Write(NamedTuple):
    """A committed change. The changes of one object, and their ledger records, are in the order of their commits."""

    number: int
    txid: int
    is_edit: bool
    table: str
    kind: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def content(self) -> dict[str, Any]:
        return self.after or self.before or {}

    @property
    def sku(self) -> str:
        return str(self.content["sku"])

    @property
    def object_id(self) -> str:
        return str(self.content["id"])


@dataclass(frozen=True, slots=True)
class Record:
    """A ledger record, and the changes of tables that are not ours in its transaction."""

    number: int  # of the write that completed it, while its object was locked
    job: Job
    index: int
    outcome: str
    object_id: str
    lookup: str
    writes: list[Write]

    @property
    def name(self) -> str:
        return f"{self.job.mode} {self.job.id}:{self.index} ({self.lookup} {self.outcome})"

    @property
    def product_writes(self) -> list[Write]:
        return [write for write in self.writes if write.table == "products_product"]


class History:
    """The ledger records and the changes of the products of one run."""

    def __init__(self, shop: Shop, jobs: list[Job], prefix: str) -> None:
        """Read what happened to the products whose SKUs begin with the prefix."""
        self.jobs = {job.id: job for job in jobs}
        owners = [str(job.id) for job in jobs]
        rows = shop.sql.execute(WRITES, [owners, prefix + "-%"])
        transactions: dict[int, list[Write]] = defaultdict(list)
        for write in map(Write._make, rows):
            transactions[write.txid].append(write)
        self.records = sorted(
            filter(None, (self._record(writes) for writes in transactions.values())), key=lambda record: record.number
        )
        self.writes = sorted(
            write for writes in transactions.values() for write in writes if write.table == "products_product"
        )

    def _record(self, writes: list[Write]) -> Record | None:
        ledger = [write for write in writes if write.table == "bulk_import_importedrow"]
        if not ledger:
            return None
        last = ledger[-1].content
        return Record(
            number=ledger[-1].number,
            job=self.jobs[UUID(last["job_id"])],
            index=last["index"],
            outcome=last["outcome"],
            object_id=last["object_id"],
            lookup=last["lookup"],
            writes=[write for write in writes if write not in ledger],
        )

    def records_of(self, job: Job) -> list[Record]:
        return [record for record in self.records if record.job is job]
