"""`manage.py bulk_import` in a process of its own: its output and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import.intake.formats import JSON, JSON_LINES, TABLE
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.local.processes import stop_process
from bulk_import.management.arguments import read_file
from demo.stack import LocalStack, local_stack
from tests.bulk_import.intake.spreadsheets.workbooks import xlsx
from tests.command_line.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    with local_stack() as stack:
        monolith, poller = stack.start_monolith(), stack.start_poller()
        yield stack
        stop_process(poller)
        stop_process(monolith)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "products.json"


def rows(prefix: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    basis = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware", **fields}
    return [{"sku": f"{prefix}-{number}", **basis} for number in range(count)]


@pytest.fixture(scope="module")
def bulk_import(stack: LocalStack) -> Iterator[Commands]:
    with Commands(stack.environment) as commands:
        yield commands


def start_anew(stack: LocalStack, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a shell does."""
    command = [sys.executable, "manage.py", "bulk_import", *map(str, arguments)]
    return subprocess.run(
        command, cwd=PROJECT, env={**stack.environment, **environment}, capture_output=True, text=True, check=False
    )


def test_it_exits_with_0_if_every_row_was_created(stack: LocalStack, file: Path) -> None:
    file.write_text(json.dumps(rows("all", 120)))
    done = start_anew(stack, file, "--target", "products", "--user", "demo", "--watch")

    assert done.returncode == 0, done.stderr
    assert "We received 120 products" in done.stdout
    assert "[##############################] 120/120  120 created" in done.stdout
    assert done.stdout.rstrip().endswith("All 120 products were created.")


def test_it_updates_what_exists(bulk_import: Commands, file: Path) -> None:
    file.write_text(json.dumps(rows("mode", 3)))
    assert bulk_import(file, "--user", "demo", "--watch").returncode == 0
    file.write_text(json.dumps([{"sku": "mode-0", "price": "1.00"}, {"sku": "mode-1"}]))

    done = bulk_import(file, "--user", "demo", "--mode", "update", "--watch")

    assert done.returncode == 0, done.stderr
    assert "2/2  1 updated, 1 unchanged" in done.stdout
    assert done.stdout.rstrip().endswith("All 2 products were imported: 1 updated, 1 unchanged.")


def test_it_skips_what_exists_or_refuses_it(bulk_import: Commands, file: Path) -> None:
    file.write_text(json.dumps(rows("twice", 2)))
    skip, again, stop, twice = (
        bulk_import(file, "--user", "demo", *arguments, "--watch")
        for arguments in [
            *[["--mode", "upsert", "--on-existing", "skip"]] * 2,
            ["--mode", "upsert", "--on-existing", "stop"],
            [],
        ]
    )

    assert [done.returncode for done in (skip, again, stop, twice)] == [0, 0, 2, 1]
    assert "2 created" in skip.stdout
    assert "All 2 products existed already and were left unchanged." in again.stdout
    assert "rows_exist" in stop.stderr
    assert "2 of them exist already." in twice.stderr


def test_it_exits_with_1_and_prints_the_problems_if_some_rows_were_not_created(
    bulk_import: Commands, file: Path
) -> None:
    file.write_text(json.dumps([*rows("some", 3), *rows("kayak", 2, category="kayaks"), {"sku": "bare"}]))
    done = bulk_import(file, "--user", "demo", "--on-invalid", "skip", "--watch")

    assert done.returncode == 1, done.stderr
    assert "category: There is no category “kayaks”. (2 rows, first at index 3)" in done.stderr
    assert "3 of 6 products were created." in done.stderr


def test_it_exits_with_0_if_accepted_and_the_key_finds_the_same_import(bulk_import: Commands, file: Path) -> None:
    file.write_text(json.dumps(rows("key", 2)))
    first, again = (
        bulk_import(file, "--user", "demo", "--idempotency-key", "night-1", *watch) for watch in ([], ["--watch"])
    )
    other = bulk_import(file, "--user", "demo", "--idempotency-key", "night-1", "--on-invalid", "skip")

    assert (first.returncode, again.returncode, other.returncode) == (0, 0, 2)
    assert first.stdout.splitlines()[-1].startswith("Job ")
    assert first.stdout.splitlines()[-1] in again.stdout.splitlines()
    assert "idempotency_key_reused" in other.stderr


def test_a_rehearsal_imports_nothing(bulk_import: Commands, file: Path) -> None:
    file.write_text(json.dumps(rows("stage", 2)))
    again = [bulk_import(file, "--user", "demo", "--rehearse", "--watch") for _ in range(2)]

    assert [done.returncode for done in again] == [0, 0]
    assert "This was a rehearsal, and nothing was imported. 2 of 2 products would be imported." in again[1].stdout


def test_a_rehearsal_is_run_and_its_import_is_undone(bulk_import: Commands, file: Path) -> None:
    file.write_text(json.dumps(rows("back", 2)))
    user = ("--user", "demo")
    rehearsal = job_of(bulk_import(file, *user, "--rehearse", "--watch"))
    run = bulk_import("run", rehearsal, *user, "--watch")
    forecast = bulk_import("undo", job_of(run), *user, "--rehearse", "--watch")
    undone = bulk_import("undo", job_of(run), *user, "--watch")
    again = bulk_import("undo", job_of(run), *user, "--watch")

    assert "2/2  2 created" in run.stdout, run.stderr
    assert "nothing was deleted. 2 of 2 products would be deleted." in forecast.stdout, forecast.stderr
    assert "An import was undone. Deleted: 2 of 2 products." in undone.stdout, undone.stderr
    assert [done.returncode for done in (run, forecast, undone, again)] == [0, 0, 0, 2]
    assert "(nothing_to_undo)" in again.stderr
    for arguments, text in {
        ("undo", job_of(run), "--dry-run"): "--dry-run cannot be used with undo.",
        ("run", job_of(run)): "Only a rehearsal can be run. (not_a_rehearsal)",
        ("undo", "x"): "There is no import x of demo.",
        ("undo",): "There is no import",
    }.items():
        refused = bulk_import(*arguments, *user)
        assert (refused.returncode, text in refused.stderr) == (2, True), refused.stderr


def job_of(done: subprocess.CompletedProcess[str]) -> str:
    return next(line.removeprefix("Job ") for line in done.stdout.splitlines() if line.startswith("Job "))


def test_a_dry_run_only_validates(bulk_import: Commands, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("sku;name;Preço;currency;category;Supplier\nDRY-1;Pot;39,90;EUR;cookware;Nord\n")
    bad.write_text("sku;name;price;currency;category\nDRY-1;Pot;;EUR;cookware\n")
    right = bulk_import(good, "--user", "demo", "--dry-run", "--locale", "pt-BR")
    wrong = bulk_import(bad, "--user", "demo", "--dry-run")

    assert (right.returncode, wrong.returncode) == (0, 2)
    assert "1 row of 1 is valid. Nothing was imported" in right.stdout
    assert "column Preço: read as price\nprice: 39,90 is read as 39.90\nSupplier: ignored" in right.stdout
    assert "line 2: price: This field is required." in wrong.stderr
    assert "Job" not in right.stdout + wrong.stdout


def test_it_exits_with_2_if_the_import_is_refused(
    stack: LocalStack, bulk_import: Commands, file: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "products.docx"
    odd.write_bytes(b"PK\x03\x04")
    file.write_text(json.dumps([*rows("no", 1), {"sku": "bare"}]))
    shell = "from django.contrib.auth.models import User; User.objects.create_user('visitor')"
    stack.run("manage.py", "shell", "-v0", "-c", shell)
    for arguments, text in {
        (): "the following arguments are required: file",
        (file, "--target", "boats", "--user", "demo"): "invalid choice: 'boats'",
        (file, "--user", "nobody"): "There is no user nobody.",
        (file, "--user", "visitor"): "You do not have permission to perform this action.",
        (tmp_path / "none.json", "--user", "demo"): "No such file",
        (odd, "--user", "demo"): "This is a ZIP archive.",
        (file, "--user", "demo"): "To import the valid rows without the others, pass --on-invalid skip.",
    }.items():
        done = bulk_import(*arguments)

        assert (done.returncode, text in done.stderr) == (2, True), done.stderr


def test_it_exits_with_3_if_a_service_is_not_available(stack: LocalStack, file: Path) -> None:
    file.write_text(json.dumps(rows("away", 1)))
    no_s3 = start_anew(stack, file, "--user", "demo", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    no_database = start_anew(stack, file, "--user", "demo", DATABASE_URL="sqlite:////nowhere/db.sqlite3")

    assert (no_s3.returncode, no_database.returncode) == (3, 3), no_s3.stderr + no_database.stderr
    assert "unable to open database file" in no_database.stderr
    assert "bulk_import_doctor says what to change" in no_s3.stderr


def test_it_exits_with_130_if_interrupted_and_the_import_continues(
    stack: LocalStack, bulk_import: Commands, file: Path
) -> None:
    file.write_text(json.dumps(rows("stop", 600)))
    key = ["--idempotency-key", "stopped"]
    with_sigint = ["env", "--default-signal=INT"]  # a shell's background processes ignore SIGINT
    command = [
        *with_sigint,
        sys.executable,
        "-u",
        "manage.py",
        "bulk_import",
        str(file),
        "--user",
        "demo",
        "--watch",
        *key,
    ]
    with subprocess.Popen(
        command, cwd=PROJECT, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout
        for line in watching.stdout:
            if "[" in line:
                break
        watching.send_signal(signal.SIGINT)
        watching.communicate()
    again = bulk_import(file, "--user", "demo", "--watch", *key)

    assert watching.returncode == 130
    assert again.returncode == 0
    assert "All 600 products were created." in again.stdout


def test_on_a_terminal_the_progress_is_one_line(stack: LocalStack, file: Path) -> None:
    file.write_text(json.dumps(rows("tty", 120)))
    master, terminal = os.openpty()
    command = [sys.executable, "manage.py", "bulk_import", str(file), "--user", "demo", "--watch"]
    done = subprocess.run(command, cwd=PROJECT, env=stack.environment, stdout=terminal, check=False)
    os.close(terminal)
    shown = os.read(master, 65536).decode()
    os.close(master)

    assert done.returncode == 0
    assert "\r\x1b[K" in shown
    assert "120/120" in shown


def test_the_help_lists_the_exit_codes(bulk_import: Commands) -> None:
    shown = bulk_import("--help").stdout

    assert all(f"  {code} " in shown for code in (0, 1, 2, 3, 130))


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b'[{"sku": "A"}]', JSON), (b'{"sku": "A"}', JSON_LINES), (b"sku\nA", TABLE), (xlsx(["sku"], ["A"]), TABLE)],
)
def test_the_bytes_of_a_file_say_what_it_is_if_its_name_does_not(tmp_path: Path, content: bytes, kind: str) -> None:
    file = tmp_path / "export.bak"
    file.write_bytes(content)
    assert read_file(file, "", ReadingOptions()).format == kind
