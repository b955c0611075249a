"""Each monolith either imports correctly, or is told the line to change. `make monoliths` tries all of them.

Without MONOLITHS=all, three of them run: those of the day.
"""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.monoliths.monolith import SITES, Monolith
from tests.processes import descendants, is_running

if TYPE_CHECKING:
    from pathlib import Path

EACH_DAY = 3
REFUSED_BATCH = "The rows of the chunk are sent one by one"  # what the worker logs
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

        check_import(monolith)
        for host in case.tenants:
            before, monolith.host = monolith.stored(), host
            check_import(monolith)
            monolith.host = case.host
            assert monolith.stored() == before
        assert REFUSED_BATCH not in monolith.log()
        if case.nginx_later:
            monolith.nginx = case.nginx_later
            monolith.start_nginx()
        if case.is_undone:
            check_update_and_undo(monolith)
            assert (REFUSED_BATCH in monolith.log()) == bool(case.nginx_later)
        if case.page:
            assert monolith.send("GET", case.page, follow_redirects=True).status_code == 200
        parts = descendants(local.pid)
        local.send_signal(signal.SIGINT)
        assert local.wait(60) == 0
        assert not [part for part in parts if is_running(part)]
        assert len(parts) > 4
