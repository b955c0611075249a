"""The table of faults (faults.md) contains only tests that exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", (TESTS / "faults.md").read_text())))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_each_test_in_the_table_exists(path: str, name: str) -> None:
    assert f"def {name}" in (TESTS / path).read_text()
