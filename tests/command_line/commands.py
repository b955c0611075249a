"""Runs `manage.py bulk_import` in processes that are forks of one process, which has loaded Django before.

To load Django takes half a second of processor time, which is most of what a command needs.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import django
from django.core.checks import run_checks
from django.core.management import execute_from_command_line

from demo.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping


class Commands:
    """Context manager. Call it with the arguments of a command, and it returns the exit code and the output."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.command_line.commands"]
        self._process = subprocess.Popen(
            command, cwd=PROJECT, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate()

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin
        assert self._process.stdout
        words = [*map(str, arguments)]
        with TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("stdout", "stderr")]
            self._process.stdin.write(json.dumps({"arguments": words, "files": [*map(str, files)]}) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            stdout, stderr = (file.read_text() for file in files)
        return subprocess.CompletedProcess(words, code, stdout, stderr)


def serve() -> None:
    """Run the command of each line of the standard input, and print its exit code."""
    django.setup()
    run_checks()  # loads all views
    gc.freeze()  # otherwise a collection in a fork copies all of it
    for line in sys.stdin:
        call = json.loads(line)
        child = os.fork()
        if not child:
            for descriptor, file in enumerate(call["files"], start=1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
            execute_from_command_line(["manage.py", "bulk_import", *call["arguments"]])
            sys.exit()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201 - the other side reads it


if __name__ == "__main__":
    serve()
