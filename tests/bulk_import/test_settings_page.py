"""docs/settings.md lists exactly the settings that exist, with their defaults."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE, Conf
from bulk_import_wire.contract import WORKER_API_PATH

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \|(.*)$", re.MULTILINE)
VARIABLE = re.compile(
    r"""
    environ(?:\.get\(|\[)"(\w+)"        # os.environ["NAME"] or os.environ.get("NAME")
    | listed\("(\w+)"\)                 # listed("NAME")
    | ^\ {4}"([A-Z_]+)":\ "[^"]+\ [^"]+"  # "NAME": "an explanation", an entry of REQUIRED or SECRETS
    """,
    re.MULTILINE | re.VERBOSE,
)
FILES_OF_VARIABLES = {"The worker": "lambda_worker/config.py", "settings/production.py": "settings/production.py"}


def section(title: str) -> str:
    """Return the text of a section with a heading of the second level."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> dict[str, str]:
    """Return the second column of each row of the section's tables, by the name in the first column."""
    return {name: second for name, second, _rest in ROW.findall(section(title))}


def test_exactly_the_existing_settings_are_listed_with_their_defaults() -> None:
    listed = {name: ast.literal_eval(default.strip("`")) for name, default in rows("BULK_IMPORT").items()}
    defaults = Conf()

    assert listed == {name.upper(): getattr(defaults, name) for name in Conf.__dataclass_fields__}


def test_every_setting_has_a_unit_an_effect_and_a_reason_to_change_it() -> None:
    for name, _default, rest in ROW.findall(section("BULK_IMPORT")):
        cells = rest.strip(" |").split(" | ")
        assert len(cells) == len([cell for cell in cells if cell.strip()]) == 3, name


def test_both_storages_are_listed() -> None:
    assert rows("STORAGES").keys() == {PAYLOADS_STORAGE, FAILURES_STORAGE}


@pytest.mark.parametrize("title", FILES_OF_VARIABLES)
def test_every_environment_variable_is_listed(title: str) -> None:
    source = (ROOT / FILES_OF_VARIABLES[title]).read_text(encoding="utf-8")
    used = {name for names in VARIABLE.findall(source) for name in names if name}

    assert rows(title).keys() == used


def test_the_path_of_the_worker_api_is_the_default() -> None:
    assert rows("The worker")["BULK_IMPORT_WORKER_API_PATH"] == f"`{WORKER_API_PATH}`"
