"""`python -m demo run [FILE]` imports a catalogue and prints a report. `python -m demo serve` runs until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bulk_import.local.processes import exit_on_signals, stop_process
from demo.run import import_catalogue
from demo.serve import serve
from demo.stack import local_stack

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE = Path(__file__).with_name("catalogue.json")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="import a catalogue and print a report")
    run.add_argument("file", nargs="?", type=Path, default=SAMPLE, help="a JSON array of products")
    serving = commands.add_parser("serve", help="run everything until Ctrl-C")
    serving.add_argument("--port", type=int, default=8000)
    serving.add_argument("--database-url", help="URL of an empty database (default: a temporary SQLite database)")
    options = parser.parse_args(arguments)

    exit_on_signals()
    console = Console()
    with ExitStack() as parts:
        if options.command == "run":
            if not options.file.is_file():
                parser.error(f"there is no file {options.file}")
            with console.status("Starting S3, SQS, the monolith and the poller …"):
                stack = parts.enter_context(local_stack())
                parts.callback(stop_process, stack.start_monolith())
                parts.callback(stop_process, stack.start_poller())
            return import_catalogue(stack, options.file, is_sample=options.file == SAMPLE, console=console)
        stack = parts.enter_context(local_stack(options.port, options.database_url))
        return serve(stack, parts, console)


if __name__ == "__main__":
    sys.exit(main())
