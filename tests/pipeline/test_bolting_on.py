"""Runs every command of docs/bolting-on.md in a new Django project, and compares the output."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bulk_import.local.processes import free_port, stop_process
from demo.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE = PROJECT / "docs" / "bolting-on.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./]+)(, at the end)?\n")
TIMEOUT_SECONDS = 60
SHELL = "/bin/sh"


class GuideRunner:
    """Runs the guide in an empty folder, with two terminals."""

    def __init__(self, folder: Path, cleanup: ExitStack, ports: dict[str, str]) -> None:
        self.folder = folder
        self._ports = ports
        self._cleanup = cleanup
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BULK_", "DJANGO"))},
            "PYTHONPATH": str(PROJECT),  # instead of pip install
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.exit_codes: dict[str, int] = {}

    def write(self, text: str) -> None:
        """Write a file of the guide, or append to it if its first line says so."""
        name, appends = FILE.match(text).groups()  # type: ignore[union-attr] # every file of the guide starts with its name
        path = self.folder / name
        path.write_text(path.read_text() + text if appends else text)

    def run(self, command: str, expected: list[str]) -> None:
        """Run a command in the first terminal, and compare its output."""
        if command.startswith("pip install"):
            return  # the packages are installed in the environment of the tests
        done = subprocess.run(
            [SHELL, "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
        self.exit_codes[command] = done.returncode
        if command.endswith("> bulk_import.env"):
            self._load(self.folder / "bulk_import.env")
        output = done.stdout.replace("\r\n", "\n")
        pattern = ".*".join(re.escape(part) for part in "\n".join(expected).split("…"))
        assert re.search(pattern, output, re.DOTALL), f"{command}\n{output}\n{done.stderr}"

    def _load(self, path: Path) -> None:
        """Use the environment of this file from now on, with the ports of this test."""
        text = path.read_text()
        for port, ours in self._ports.items():
            text = text.replace(f":{port}", f":{ours}")
        path.write_text(text)
        self._environment |= dict(re.findall(r"^export (\w+)=(\S+)", text, re.MULTILINE))

    def start(self, command: str) -> None:
        """Start a command in the second terminal, and wait until its port accepts connections."""
        log = self._cleanup.enter_context((self.folder / "terminal-2.log").open("a"))
        process = subprocess.Popen(
            [SHELL, "-c", f"exec {command}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._cleanup.callback(stop_process, process)
        port = self._ports["4566"] if "bulk_import_local" in command else command.rpartition(":")[2]
        await_port(int(port), process, self.folder / "terminal-2.log")


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < give_up_at:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"no process listens on port {port}:\n{log.read_text()}")


def commands(block: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the terminal, the command and the expected output of each command in a block."""
    lines = block.splitlines()
    starts = [n for n, line in enumerate(lines) if re.match(r"2?\$ ", line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        terminal, _, command = lines[start].partition("$ ")
        yield terminal, command, lines[start + 1 : end]


@pytest.mark.timeout(300)
def test_the_installation_guide_works_as_written(tmp_path: Path) -> None:
    guide = GUIDE.read_text()
    ports = {port: str(free_port()) for port in ("8000", "4566")}
    guide = guide.replace(":8000", f":{ports['8000']}")
    app_before: dict[Path, bytes] = {}
    with ExitStack() as cleanup:
        guide_runner = GuideRunner(tmp_path, cleanup, ports)
        for kind, block in BLOCK.findall(guide):
            if kind == "json":
                assert len(json.loads(block)) == 3
                (tmp_path / "books.json").write_text(block)
            elif kind == "python":
                guide_runner.write(block)
            else:
                for terminal, command, expected in commands(block):
                    guide_runner.start(command) if terminal else guide_runner.run(command, expected)
            if "Superuser created" in block:
                app_before = {path: path.read_bytes() for path in (tmp_path / "books").rglob("*.py")}

        failed = {command: code for command, code in guide_runner.exit_codes.items() if code}
        assert app_before == {path: path.read_bytes() for path in (tmp_path / "books").rglob("*.py")}
        assert len(app_before) > 5
        # Only the second import of the same books may fail.
        assert list(failed.values()) == [1]
        assert "--idempotency-key again" in next(iter(failed))
