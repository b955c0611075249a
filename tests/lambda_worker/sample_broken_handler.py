"""A handler that cannot be imported until the file "fixed" is there: an init error."""

from __future__ import annotations

import os
from pathlib import Path

if not (Path(os.environ["SAMPLE_DIRECTORY"]) / "fixed").exists():
    raise RuntimeError("broken as the test wants it")


def handler(_event: object, _context: object) -> None: ...
