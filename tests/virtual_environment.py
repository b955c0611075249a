"""Virtual environments beside our own, for what must not share it: another Python, or other pins."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".local" / "environments"


def environment_of(requirements: Path, interpreter: Path) -> Path:
    """Return the Python of an environment that holds these pinned requirements; made once and kept in `.local`."""
    key = hashlib.sha256(f"{interpreter.resolve()}\n{requirements.read_text()}".encode()).hexdigest()[:16]
    folder = CACHE / f"{requirements.parent.name}-{key}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        uv = [sys.executable, "-m", "uv", "--quiet", "--no-config"]
        subprocess.run([*uv, "venv", "--clear", "--python", interpreter, folder], check=True)
        subprocess.run([*uv, "pip", "install", "--python", python, "--requirement", requirements], check=True)
        complete.touch()
    return python
