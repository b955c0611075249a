"""Creates virtual environments for tests that need another Python version or other pinned packages."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".local" / "environments"


def environment_of(requirements: Path, interpreter: Path) -> Path:
    """Return the Python of an environment with these pinned requirements. It is created once and kept in `.local`."""
    key = hashlib.sha256(f"{interpreter.resolve()}\n{requirements.read_text()}".encode()).hexdigest()[:16]
    folder = CACHE / f"{requirements.parent.name}-{key}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        uv = [sys.executable, "-m", "uv", "--quiet", "--no-config"]
        subprocess.run([*uv, "venv", "--clear", "--python", interpreter, folder], check=True)
        subprocess.run([*uv, "pip", "install", "--python", python, "--requirement", requirements], check=True)
        complete.touch()
    return python
