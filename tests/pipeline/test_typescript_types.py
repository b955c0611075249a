"""The schema becomes TypeScript types that a compiler accepts, and that know a job."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command

if TYPE_CHECKING:
    from pathlib import Path

NPX = shutil.which("npx")
USE = """
import type { components, operations } from "./types";
type Job = components["schemas"]["ImportJob"];
export const pending = (job: Job): number => job.counts.pending;
export const ended: Job["status"][] = ["succeeded", "partially_succeeded", "failed", "cancelled"];
export const finished = (job: Job): string | null => job.finished_at;
type Rows = operations["products_bulk_create"]["requestBody"]["content"]["application/json"];
export const rows: Rows = [{ sku: "MUG-1", name: "Mug", price: "9.50", currency: "EUR", category: "cookware" }];
"""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(NPX is None, reason="Needs npx: apt-get install npm"),
]


def npx(folder: Path, *arguments: str) -> None:
    done = subprocess.run([str(NPX), "--yes", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_typescript_knows_the_api(tmp_path: Path) -> None:
    call_command("spectacular", "--file", str(tmp_path / "schema.yml"))
    (tmp_path / "use.ts").write_text(USE)
    npx(tmp_path, "openapi-typescript@7", "schema.yml", "-o", "types.ts")
    npx(tmp_path, "-p", "typescript@5", "tsc", "--noEmit", "--strict", "use.ts")
