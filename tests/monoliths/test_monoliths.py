"""Each monolith either imports correctly, or is told the line to change. `make monoliths` tries all of them.

Each one also imports the same rows with single calls and in batches, and nothing may differ.
Without MONOLITHS=all, three of them run: those of the day.
"""

from __future__ import annotations

import json
import os
import re
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.monoliths.monolith import SITES, Monolith
from tests.processes import descendants, is_running

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

EACH_DAY = 3
MIXED_ROWS = 12
REFUSED_BATCH = "The rows of the chunk are sent one by one"  # what the worker logs
BATCH_CALL = re.compile(r"POST \S*/bulk-import/worker/chunks/\S+/rows\b")  # what the site logs
COMPARED = [
    "SELECT sku, name, unit_price, seen FROM shop_item ORDER BY sku",
    "SELECT text FROM shop_logentry ORDER BY text",
]
names = sorted(path.stem for path in SITES.glob("*.py"))


def chosen() -> list[str]:
    """Return the names of the monoliths to try."""
    if os.environ.get("MONOLITHS") == "all":
        return names
    first = datetime.now(UTC).toordinal() * EACH_DAY
    return [names[(first + number) % len(names)] for number in range(EACH_DAY)]


def check_import(monolith: Monolith) -> None:
    """Import the rows, and check that each of them was created."""
    accepted = monolith.upload()
    assert accepted.status_code == 202, accepted.text
    job = monolith.finish(accepted.headers["Location"])
    created = len(monolith.rows)
    assert (job["status"], job["counts"]["created"]) == ("succeeded", created), (job, monolith.log())
    expected = [[row["sku"]] for row in monolith.rows] if monolith.case.row_count else monolith.case.stored
    assert monolith.stored() == expected


def check_imports(monolith: Monolith) -> None:
    """Import the rows into each tenant, and check that no other tenant has changed."""
    check_import(monolith)
    for host in monolith.case.tenants:
        before, monolith.host = monolith.stored(), host
        check_import(monolith)
        monolith.host = monolith.case.host
        assert monolith.stored() == before


def check_both_ways(monolith: Monolith) -> None:
    """Import the same rows with single calls and in batches, and compare what can be seen of them."""
    single = import_mixed_rows(monolith, "V1")
    assert not BATCH_CALL.search(monolith.log())
    assert single[0]["job"]["counts"]["created"] == MIXED_ROWS - 2, single
    monolith.use_batches()
    assert import_mixed_rows(monolith, "V2") == single
    assert BATCH_CALL.search(monolith.log())
    assert REFUSED_BATCH not in monolith.log()


def import_mixed_rows(monolith: Monolith, prefix: str) -> list[dict[str, Any]]:
    """Import rows into each tenant: new ones, and some that only the endpoint refuses. Return what became of them."""
    first = monolith.rows[0]
    rows = [{**first, "sku": f"{prefix}-{number:02}"} for number in range(MIXED_ROWS)]
    rows[3]["sku"] = first["sku"]  # it exists
    rows[5]["name"], rows[7]["name"] = "Forbidden", "Flaky"  # the second one is created when it is retried
    observed = []
    for host in [monolith.case.host, *monolith.case.tenants]:
        monolith.host = host
        location = monolith.upload(rows=rows).headers["Location"]
        job = monolith.finish(location)
        results = monolith.send("GET", monolith.path_of(location) + "/results").text.replace(prefix, "")
        stored = [[row for row in monolith.stored(query) if row[0].startswith(prefix)] for query in COMPARED]
        observed.append(
            {
                "job": {name: job[name] for name in ("status", "message", "counts", "problems", "pause")},
                "results": [without_identity(json.loads(line)) for line in results.splitlines()],
                "stored": json.loads(json.dumps(stored).replace(prefix, "")),
            }
        )
    monolith.host = monolith.case.host
    return observed


def without_identity(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with whether the ID and the URL of its object are known, because each object has its own."""
    return {**result, "id": bool(result["id"]), "url": bool(result["url"])}


def check_update_and_undo(monolith: Monolith) -> None:
    """Send the rows again with another name and one new row, read the results, and undo this second import."""
    before = monolith.stored()
    rows = [{**row, "name": "Changed"} for row in monolith.rows]
    accepted = monolith.upload("?mode=upsert", [*rows, {**rows[0], "sku": "Z"}])
    location = accepted.headers["Location"]
    job = monolith.finish(location)
    results = monolith.send("GET", monolith.path_of(location) + "/results")
    outcomes = [json.loads(line)["outcome"] for line in results.text.splitlines()]
    assert outcomes == ["updated"] * len(rows) + ["created"], (job, monolith.log())
    assert monolith.stored() == [*before, ["Z"]]

    undo = monolith.send("POST", monolith.path_of(location) + "/undo")
    undone = monolith.finish(undo.headers["Location"])
    assert undone["counts"]["deleted"] == 1, undone
    assert monolith.stored() == before


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", chosen())
def test_a_monolith_imports_or_is_told_the_line_to_change(name: str, tmp_path: Path) -> None:
    with Monolith(name, tmp_path) as monolith:
        case = monolith.case
        monolith.install()
        again = monolith.init()
        assert "settings: nothing to add" in again
        assert "urls: nothing to add" in again
        checked = monolith.manage("check")
        if checked.returncode:
            assert case.is_refused
            assert case.told in checked.stderr
            return
        local = monolith.start_local()
        monolith.start_site()
        if case.told:
            code, said = monolith.doctor()
            assert case.told in said
            assert code == 1 or "warning" in said
            if case.is_refused:
                refused = monolith.upload()
                assert (refused.status_code == 503, code) in {(True, 1), (False, 1)}, refused.text
                return
            monolith.append("config.py", case.fix)
            monolith.prefix, monolith.nginx = case.fixed_prefix or case.prefix, case.nginx_fix
            monolith.start_site()
        code, said = monolith.doctor()
        assert (code, "warning" in said, case.report in said) == (0, False, True), said
        assert monolith.stored() == []  # probes leave nothing

        check_imports(monolith)
        check_both_ways(monolith)
        if case.nginx_later:
            monolith.nginx = case.nginx_later
            monolith.start_nginx()
        if case.is_undone:
            check_update_and_undo(monolith)
            assert (REFUSED_BATCH in monolith.log()) == bool(case.nginx_later)
        if case.page:
            assert monolith.send("GET", case.page, follow_redirects=True).status_code == 200
        check_end(local)


def check_end(local: subprocess.Popen[bytes]) -> None:
    """Stop `bulk_import_local`, and check that all its processes end with it."""
    parts = descendants(local.pid)
    local.send_signal(signal.SIGINT)
    assert local.wait(60) == 0
    assert not [part for part in parts if is_running(part)]
    assert len(parts) > 4
