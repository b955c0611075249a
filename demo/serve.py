"""`make serve`: the whole product, kept running until Ctrl-C."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from demo.stack import stop_process

if TYPE_CHECKING:
    from contextlib import ExitStack

    from rich.console import Console

    from demo.stack import LocalStack

INTRODUCTION = """
[bold]The shop is open.[/bold] Users: demo/demo (may create products) and admin/admin.

  Import       curl -u demo:demo -H 'Content-Type: application/json' \\
                 --data-binary @demo/catalogue.json '{url}/products/bulk?on_invalid=skip'
  Products     {url}/products/
  Staff        {url}/admin/bulk_import/importjob/

  S3 and SQS   AWS_ENDPOINT_URL={aws_url} (any credentials)
  Queue        {queue_url}
  Database     {database_url}
  Mail         {mail_folder}
  Log          {folder}/stack.log

Ctrl-C stops everything and forgets it all."""

CHECK_SECONDS = 0.5


def serve(stack: LocalStack, parts: ExitStack, console: Console) -> int:
    """Run until interrupted. A poller that dies is started again, as Lambda would; returns the exit code."""
    monolith = stack.start_monolith()
    parts.callback(stop_process, monolith)
    pollers = [stack.start_poller()]
    parts.callback(lambda: stop_process(pollers[-1]))
    console.print(INTRODUCTION.format(**vars(stack)), soft_wrap=True, highlight=False)
    console.print(f"  Poller       process {pollers[-1].pid}", highlight=False)
    while monolith.poll() is None:
        try:
            code = pollers[-1].wait(CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        stop_process(pollers[-1])
        pollers.append(stack.start_poller())
        console.print(f"The poller ended ({code}); a new one is process {pollers[-1].pid}.", highlight=False)
        time.sleep(CHECK_SECONDS)
    console.print(f"[red]The monolith ended.[/red]\n{stack.log}")
    return 1
