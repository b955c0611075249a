"""A probe: a create call that the doctor or the worker makes to learn whether imports work. It is always rolled back.

1. The caller asks the worker API for the calls of a user (`ProbeRequest`), which needs the worker secret.
2. The worker API answers with one `ProbeCall` for each target. It contains a token of its own kind and a row.
3. The caller sends each row to the create endpoint, with the headers of an import.
4. The monolith's middleware answers with a `ProbeReport` instead of the view's response. Its status is 400, as for a
   row that is rejected, so the answer also shows whether something replaces the answers to such rows.

`bulk_import_wire.probe_findings` says what the report means.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from bulk_import_wire.contract import Claim
from bulk_import_wire.json_object import JsonObject

PROBE_PATH = "probe"
"""Path of the call that asks for probes, below WORKER_API_PATH."""


@dataclass(frozen=True, slots=True)
class ProbeRequest(JsonObject):
    """Body of the call that asks for probes."""

    user: str  # name of the user as whom the rows are tried
    target: str = ""  # "" for all targets
    host: str = ""  # host under which the user reaches the site; "" for that of PUBLIC_URL
    row: str = ""  # the row as JSON text; "" for a row that is generated from the target's serializer


@dataclass(frozen=True, slots=True)
class ProbeCall(JsonObject):
    """One create call to make. If `problem` is not empty, there is nothing to send, and `fix` says what to change."""

    target: str
    claim: dict[str, Any] = field(default_factory=dict)  # a Claim, with a probe token instead of an import token
    row: str = ""  # the body of the call
    key: str = ""  # its IDEMPOTENCY_KEY
    is_generated: bool = False  # whether the row was generated from the serializer
    user: str = ""  # primary key of the user
    success_statuses: list[int] = field(default_factory=list)
    serializer: str = ""  # dotted path of the target's serializer
    places: dict[str, Any] = field(default_factory=dict)  # where the worker API sees tables, as in ProbeReport
    problem: str = ""
    fix: str = ""
    is_allowed: bool = True  # False if the target does not allow rehearsals, so that its site has chosen the problem

    def to_claim(self) -> Claim:
        """Return the claim. Raises MessageError."""
        return Claim.from_dict(self.claim)


@dataclass(frozen=True, slots=True)
class ProbeReport(JsonObject):
    """What the monolith saw of a probe, and what its create endpoint did with it."""

    view: str  # dotted path of the view that answered
    status: int
    verdict: str  # the verdict that a create call would have had
    errors: list[dict[str, Any]]  # with field, code and message
    milliseconds: int  # duration of the view
    user: str  # primary key of the user that the view saw; "" if there was none
    host: str  # host that the view saw
    body_sha256: str  # hash of the body that the view saw
    ledger: str  # alias of the ledger's database
    isolation: str  # isolation level of the ledger's transaction; "" on SQLite
    used: list[str] = field(default_factory=list)  # aliases of the databases that the view queried
    written: list[str] = field(default_factory=list)  # aliases of the databases that the view wrote to
    hooks: int = 0  # functions that the view passed to on_commit; they did not run
    tenant: str = ""  # what the site's own middleware put into request.tenant, or the schema of the connection
    serializer: str = ""  # dotted path of the serializer that the view used; "" if it is not a generic view
    ignored: list[str] = field(default_factory=list)  # fields of the row that the target's serializer does not have
    throttles: list[str] = field(default_factory=list)  # such as "UserRateThrottle 1000/day"
    rows_per_second: float = 0.0  # the most that the throttles allow; 0 if they do not limit it
    location: str = ""  # where the view redirected to
    key: str = ""  # the IDEMPOTENCY_KEY that arrived
    places: dict[str, Any] = field(default_factory=dict)  # database and schema of this app's tables and of the users
    is_user_read_early: bool = False  # whether something has read request.user before it was the user of the import
    setters: list[str] = field(default_factory=list)  # authentication classes that set more than request.user
    exception: str = ""  # the exception that the view raised, if it is not one of DRF's


def row_sha256(row: str) -> str:
    """Return the hash of a row's body, as ProbeReport has it."""
    return hashlib.sha256(row.encode()).hexdigest()
