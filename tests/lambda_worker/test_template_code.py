"""The SAM template: it provides what the code of the functions expects."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from bulk_import_wire.contract import WORKER_API_PATH
from lambda_worker import dead_letter, handler
from lambda_worker.config import Config
from lambda_worker.deadlines import Deadlines
from lambda_worker.monolith_client import API_TIMEOUT_SECONDS
from lambda_worker.package import DESTINATION, PYTHONS
from tests.lambda_worker.conftest import Context
from tests.lambda_worker.sam_template import (
    BEHIND,
    PARAMETERS,
    TEMPLATE,
    TIMEOUTS,
    Stack,
    source,
)


@pytest.mark.parametrize(("queue", "module"), [("Queue", handler), ("DeadLetterQueue", dead_letter)])
def test_each_queue_triggers_its_handler(queue: str, module: Any) -> None:
    dotted = Stack().properties(BEHIND[queue])["Handler"]
    path, _, name = dotted.rpartition(".")

    assert getattr(import_module(path), name) is module.handler


@pytest.mark.parametrize("function", BEHIND.values())
def test_each_function_has_its_own_code_uri(function: str) -> None:
    """For a CodeUri in Globals, `aws cloudformation package` would upload the whole folder of the template."""
    uri = source()["Resources"][function]["Properties"]["CodeUri"]
    common = source()["Globals"]["Function"]

    assert "CodeUri" not in common
    assert (TEMPLATE.parent / uri).resolve() == DESTINATION / f"lambda_worker-{common['Architectures'][0]}.zip"


def test_the_runtime_is_one_for_which_a_zip_can_be_built() -> None:
    parameter = PARAMETERS["Runtime"]

    assert parameter["AllowedValues"] == [f"python{version}" for version in PYTHONS]
    assert parameter["Default"] == f"python{PYTHONS[0]}"
    for function in BEHIND.values():
        assert Stack(Runtime="python3.14").properties(function)["Runtime"] == "python3.14"


class Reading(dict[str, str]):
    """An environment that records which variables are read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("function", BEHIND.values())
def test_the_environment_has_exactly_the_variables_that_the_configuration_reads(function: str) -> None:
    environment = Reading(Stack().properties(function)["Environment"]["Variables"])

    config = Config.from_environment(environment)

    assert environment.keys() == environment.names - {"BULK_IMPORT_WORKER_SECRET"}
    assert config == Config(
        base_url="https://shop.example",
        worker_secret="",
        payloads_bucket="PayloadsBucket",
        failures_bucket="FailuresBucket",
        queue_url="Queue",
        worker_api_path=WORKER_API_PATH,
        worker_secret_id="WorkerSecret",
    )


def test_secrets_manager_generates_the_secret_and_no_variable_contains_it() -> None:
    assert Stack().properties("WorkerSecret")["GenerateSecretString"] == {
        "PasswordLength": 64,
        "ExcludePunctuation": True,
    }
    assert "resolve:" not in TEMPLATE.read_text()


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("function", ["Worker", "DeadLetter"])
def test_the_late_alarm_goes_off_when_the_time_to_report_is_over(function: str, timeout: str) -> None:
    stack = Stack(FunctionTimeoutSeconds=timeout)
    seconds = int(stack.properties(f"{function}Function")["Timeout"])
    late = Deadlines.of(Context(milliseconds_left=seconds * 1000), 0).report_by

    assert stack.properties(f"{function}Late")["Threshold"] == late * 1000


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("function", BEHIND.values())
def test_a_function_timeout_leaves_time_for_a_worker_api_call_that_hangs(function: str, timeout: str) -> None:
    seconds = int(Stack(FunctionTimeoutSeconds=timeout).properties(function)["Timeout"])

    assert Deadlines.of(Context(milliseconds_left=seconds * 1000), 0).stop_at > API_TIMEOUT_SECONDS
