"""The worker is packaged on its own, so it may import only what is in its package or in the Lambda runtime."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import lambda_worker

PACKAGE = Path(lambda_worker.__file__).parent
MODULES = sorted(PACKAGE.glob("**/*.py"))

OWN = {"lambda_worker", "bulk_import_wire"}
PACKAGED = {"httpx", "httpx_aiohttp", "aiohttp"}  # lambda_worker/pyproject.toml
RUNTIME = {"boto3", "botocore"}  # included in AWS's Python runtime
STANDARD_LIBRARY = sys.stdlib_module_names


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def imports(tree: ast.AST) -> set[str]:
    """Return the modules that are imported at run time, also within functions."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        found |= imports(node)
    return found


def packages(source: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(ast.parse(source))}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_what_is_packaged(module: Path) -> None:
    assert packages(module.read_text()) <= STANDARD_LIBRARY | OWN | PACKAGED | RUNTIME


def test_only_the_monolith_client_and_its_connections_know_the_http_client() -> None:
    knowing = {module.stem for module in MODULES if packages(module.read_text()) & PACKAGED}

    assert knowing == {"connections", "monolith_client", "resolver"}


def test_imports_are_found_everywhere_except_in_type_checking_blocks() -> None:
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import for_types
else:
    pass
def function():
    try:
        import django.db
    except ImportError:
        from bulk_import import conf
"""
    assert packages(source) == {"typing", "django", "bulk_import"}
