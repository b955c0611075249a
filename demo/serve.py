"""`make serve`: runs the whole product until Ctrl-C."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bulk_import.local.processes import restart_ended, stop_process

if TYPE_CHECKING:
    from contextlib import ExitStack

    from rich.console import Console

    from demo.stack import LocalStack

INTRODUCTION = """
[bold]The shop is running.[/bold] Users: demo/demo (may create, change and delete products) and admin/admin (superuser).

  Import       curl -u demo:demo -H 'Content-Type: application/json' \\
                 --data-binary @demo/catalogue.json '{url}/products/bulk?on_invalid=skip'
  Import page  {url}/products/import/
  Products     {url}/products/
  Admin        {url}/admin/bulk_import/importjob/

  S3 and SQS   AWS_ENDPOINT_URL={aws_url} (any credentials)
  Queue        {queue_url}
  Database     {database_url}
  Emails       {mail_folder}
  Log          {folder}/stack.log

Ctrl-C stops everything and deletes all data."""

CHECK_SECONDS = 0.5


def serve(stack: LocalStack, parts: ExitStack, console: Console) -> int:
    """Run until interrupted, and restart the pollers and the relay if they end. Returns 1 if the monolith ends."""
    monolith = stack.start_monolith()
    running = {"monolith": monolith}
    parts.callback(lambda: stop_process(*running.values()))
    starts = {"poller": stack.start_poller, "dead-letter poller": stack.start_dead_letter_poller}
    starts["relay"] = stack.start_relay
    for name, start in starts.items():
        running[name] = start()
    console.print(INTRODUCTION.format(**vars(stack)), soft_wrap=True, highlight=False)
    console.print(f"  Poller       process {running['poller'].pid}", highlight=False)
    while monolith.poll() is None:
        time.sleep(CHECK_SECONDS)
        restart_ended(starts, running, lambda text: console.print(text, highlight=False))
    console.print(f"[red]The monolith ended.[/red]\n{stack.log}")
    return 1
