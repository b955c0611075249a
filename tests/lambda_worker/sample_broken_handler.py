"""A handler whose import fails until the file "fixed" exists: an init error."""

from __future__ import annotations

import os
from pathlib import Path

if not (Path(os.environ["SAMPLE_DIRECTORY"]) / "fixed").exists():
    raise RuntimeError("broken on purpose")


def handler(_event: object, _context: object) -> None: ...
