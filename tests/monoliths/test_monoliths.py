"""Each monolith either imports correctly, or is told the line to change. `make monoliths` tries all of them.

Without MONOLITHS=all, three of them run: those of the day.
"""

from __future__ import annotations

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
names = sorted(path.stem for path in SITES.glob("*.py"))


def chosen() -> list[str]:
    """Return the names of the monoliths to try."""
    if os.environ.get("MONOLITHS") == "all":
        return names
    first = datetime.now(UTC).toordinal() * EACH_DAY
    return [names[(first + number) % len(names)] for number in range(EACH_DAY)]


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
            monolith.prefix = case.fixed_prefix
            monolith.start_site()
        code, said = monolith.doctor()
        assert (code, "warning" in said, case.report in said) == (0, False, True), said
        assert monolith.stored() == []  # probes leave nothing

        accepted = monolith.upload()
        assert accepted.status_code == 202, accepted.text
        job = monolith.finish(accepted.headers["Location"])

        assert (job["status"], job["counts"]["created"]) == ("succeeded", 2), (job, monolith.log())
        assert monolith.stored() == case.stored
        if case.page:
            assert monolith.send("GET", case.page, follow_redirects=True).status_code == 200
        parts = descendants(local.pid)
        local.send_signal(signal.SIGINT)
        assert local.wait(20) == 0
        assert not [part for part in parts if is_running(part)]
        assert len(parts) > 4
