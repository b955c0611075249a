"""Some runs of `make simulate`, each in a process of its own, because the simulation replaces the process's clocks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from demo.stack import PROJECT
from tests.chaos.mutate import LEFT_OUT, Mutation, edit
from tests.simulation.mutate import EXPECTED_SURVIVORS, GUARANTEES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

LEASE_SECONDS = 60
"""The lease of `recovery`, and the default of the setting."""

RUNS = 200
"""Number of runs of the first test. They take about 30 seconds of CPU time, in two processes."""


TASKS_IN_A_SET = """
import asyncio, random
from tests.simulation.event_loop import VirtualLoop, clock

async def main():
    tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(100)]
    print(list(set(tasks)) == tasks)
    await asyncio.wait(tasks)

VirtualLoop(clock, random.Random(1)).run_until_complete(main())
"""


def python(*arguments: str, folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def simulate(*options: str, folder: Path = PROJECT) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the command. Return the process and the JSON of its last line."""
    run = python("-m", "tests.simulation", *options, folder=folder)
    assert run.stdout, run.stderr
    return run, json.loads(run.stdout.splitlines()[-1])


def test_no_row_is_lost_duplicated_or_misreported_and_every_job_ends() -> None:
    run, summary = simulate(f"--runs={RUNS}", "--seed=1", "--processes=2")

    assert run.returncode == 0, run.stdout + run.stderr
    assert summary["runs"] == RUNS
    assert summary["faults"] > 5 * RUNS


def test_a_seed_gives_the_same_run_each_time_and_after_any_other_run() -> None:
    run, summary = simulate("--runs=3", "--seed=99", "--replay=2")
    other_run, _ = simulate("--runs=1", "--seed=101", "--replay=1")

    assert summary["identical"] == 3, run.stdout
    assert run.stdout.splitlines()[2] == other_run.stdout.splitlines()[0]


def test_the_order_of_a_set_of_tasks_does_not_depend_on_memory() -> None:
    """A task group cancels its tasks in the order of a set. By default, it depends on their addresses."""
    run = python("-c", TASKS_IN_A_SET)

    assert run.stdout == "True\n", run.stderr


def test_the_prepared_statements_are_those_that_django_builds() -> None:
    run, summary = simulate("--runs=10", "--seed=1", "--check-sql")

    assert run.returncode == 0, run.stderr
    assert summary["runs"] == 10


def test_a_broken_guarantee_is_found_and_reduced_to_the_faults_that_show_it(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(PROJECT, copy, ignore=LEFT_OUT)
    mutation = next(mutation for mutation in GUARANTEES if "share" in mutation.name)
    for path, text, instead in mutation.edits:
        edit(copy / path, text, instead)

    run, summary = simulate("--runs=50", "--seed=11", "--until-red", folder=copy)

    assert run.returncode == 1
    assert summary["lost"] > 0
    assert "lost: row" in run.stdout
    listed = [line for line in run.stdout.splitlines() if line.startswith("    ")]
    assert len(listed) == 1, run.stdout


def test_the_runs_that_once_showed_a_bug_have_no_findings() -> None:
    run = python("-m", "tests.simulation.pinned")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "the message of a paused job is lost: []" in run.stdout


def test_the_rows_of_a_killed_worker_continue_in_less_than_twice_the_lease() -> None:
    run = python("-m", "tests.simulation.recovery")

    assert run.returncode == 0, run.stderr
    seconds, epoch = run.stdout.split()
    assert int(epoch) == 2  # a second worker has continued the chunk
    assert LEASE_SECONDS < float(seconds) < 2 * LEASE_SECONDS


@pytest.mark.parametrize("mutation", [*GUARANTEES, *EXPECTED_SURVIVORS], ids=lambda mutation: mutation.name)
def test_each_mutation_finds_its_text(mutation: Mutation) -> None:
    for path, text, _instead in mutation.edits:
        assert (PROJECT / path).read_text().count(text) == 1, f"{path}: {text}"
