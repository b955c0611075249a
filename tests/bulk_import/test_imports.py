"""The monolith's half knows of the worker's only what both sides share."""

import ast
from pathlib import Path

import pytest

import bulk_import

SHARED = {"lambda_worker.contract", "lambda_worker.logs", "lambda_worker.problems"}
MODULES = sorted(Path(bulk_import.__file__).parent.rglob("*.py"))


def imported_modules(source: str) -> set[str]:
    """Every module that the source imports, wherever in it; `from a import b` counts as `a.b` if `a` is a package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in {"lambda_worker", "products"}:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(MODULES[0].parent)))
def test_a_module_imports_nothing_of_the_worker_but_what_both_sides_share(module: Path) -> None:
    imported = imported_modules(module.read_text(encoding="utf-8"))

    assert {name for name in imported if name.partition(".")[0] == "lambda_worker"} <= SHARED


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(MODULES[0].parent)))
def test_a_module_imports_nothing_of_the_shop(module: Path) -> None:
    """Targets are named in settings."""
    imported = imported_modules(module.read_text(encoding="utf-8"))

    assert not {name for name in imported if name.partition(".")[0] in {"products", "settings", "demo", "tests"}}


def test_the_contract_is_imported_at_all() -> None:
    """Or else the tests above look at nothing."""
    imported = set[str]().union(*(imported_modules(module.read_text(encoding="utf-8")) for module in MODULES))

    assert imported >= SHARED
