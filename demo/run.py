"""`make demo`: runs one import, prints its report, and compares its counts with the database."""

from __future__ import annotations

import sqlite3
import time
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING, Any

import httpx
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from demo.stack import LocalStack

SAMPLE_REJECTED = 12  # number of rows in catalogue.json that the shop must reject
TERMINAL = {"succeeded", "partially_succeeded", "failed", "cancelled"}
NOT_CREATED = ("rejected", "failed", "unprocessed")
GIVE_UP_SECONDS = 600


def import_catalogue(stack: LocalStack, file: Path, *, is_sample: bool, console: Console) -> int:
    """Import the file and print the result. Returns the exit code: 0 if all counts are correct."""
    products_before = count_products(stack)
    with httpx.Client(base_url=stack.url, auth=("demo", "demo"), trust_env=False, timeout=60) as shop:
        answer = shop.post(
            "/products/bulk?on_invalid=skip", content=file.read_bytes(), headers={"Content-Type": "application/json"}
        )
        if answer.status_code != httpx.codes.ACCEPTED:
            print_refusal(answer, console)
            return 1
        console.print(f"[bold]{answer.status_code}[/bold] {answer.json()['message']}")
        job = follow(shop, answer.headers["Location"], console)
        failures = shop.get(job["links"]["failures"]).text.splitlines()
    created = count_products(stack) - products_before
    print_report(stack, job, created, console)
    counts = job["counts"]
    is_correct = (
        job["status"] in TERMINAL
        and counts["created"] == created
        and sum(counts.values()) == job["rows"]
        and counts["pending"] == 0
        and len(failures) == sum(counts[outcome] for outcome in NOT_CREATED)
        and (not is_sample or len(failures) == SAMPLE_REJECTED)
    )
    if not is_correct:
        console.print(f"[red]The counts are wrong.[/red] The log:\n{stack.log}", highlight=False)
    return 0 if is_correct else 1


def follow(shop: httpx.Client, location: str, console: Console) -> dict[str, Any]:
    """Poll the job and show its progress until it ends or GIVE_UP_SECONDS are over. Returns its last state."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("Creating", total=None)
        while True:
            job: dict[str, Any] = shop.get(location).raise_for_status().json()
            progress.update(bar, total=job["rows"], completed=job["rows"] - job["counts"]["pending"])
            if job["status"] in TERMINAL or time.monotonic() > give_up_at:
                return job
            time.sleep(0.2)  # more often than Retry-After asks, for a smooth bar


def count_products(stack: LocalStack) -> int:
    with sqlite3.connect(stack.sqlite) as database:
        count: int = database.execute("SELECT count(*) FROM products_product").fetchone()[0]
    database.close()
    return count


def print_refusal(answer: httpx.Response, console: Console) -> None:
    """Print the error of an import that was refused as a whole."""
    console.print(f"[red]{answer.status_code}[/red] {answer.text[:500]}", highlight=False)


def print_report(stack: LocalStack, job: dict[str, Any], products: int, console: Console) -> None:
    console.print(f"[bold]{job['status']}[/bold]: {job['message']}", highlight=False)
    outcomes = Table("outcome", "rows", title="Outcomes of the rows")
    outcomes.columns[1].justify = "right"
    for outcome, rows in job["counts"].items():
        if rows:
            outcomes.add_row(outcome, str(rows))
    outcomes.add_row("products in the database", str(products), style="bold")
    console.print(outcomes)
    if job["problems"]:
        reasons = Table("rows", "field", "reason", "first row", title="Reasons why rows were not created")
        for problem in job["problems"]:
            reasons.add_row(str(problem["count"]), problem["field"], problem["message"], str(problem["first_index"]))
        console.print(reasons)
    for path in sorted(stack.mail_folder.glob("*")):
        mail = message_from_bytes(path.read_bytes(), policy=default)
        console.print(f"Email to {mail['To']}: {mail['Subject']}", highlight=False)
    console.print(
        "Next: run [bold]make serve[/bold] and open /admin/bulk_import/importjob/ (admin/admin), "
        "or import your own file: [bold]make demo FILE=products.json[/bold]",
        highlight=False,
    )
