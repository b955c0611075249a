"""Both sides import the wire, so it must run everywhere where one of them runs."""

import ast
import sys
from pathlib import Path

import pytest

import bulk_import_wire

MODULES = sorted(Path(bulk_import_wire.__file__).parent.glob("**/*.py"))


def imported_packages(source: str) -> set[str]:
    """Return the top-level packages that the source imports, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_the_wire_uses_the_standard_library_only(module: Path) -> None:
    assert imported_packages(module.read_text(encoding="utf-8")) <= sys.stdlib_module_names | {"bulk_import_wire"}
