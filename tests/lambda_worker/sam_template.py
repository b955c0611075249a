"""The SAM template as CloudFormation receives it, with its values for given parameters."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from cfnlint.decode import decode
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

import lambda_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEMPLATE = Path(lambda_worker.__file__).parent / "template.yaml"

NO_VALUE = object()
"""Stands for AWS::NoValue: the property does not exist."""

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::NoValue": NO_VALUE,
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "bulk-import",
}


def source() -> dict[str, Any]:
    """Return the template as written, with the short forms of functions such as !Ref expanded."""
    decoded, problems = decode(str(TEMPLATE))
    assert not problems
    template: dict[str, Any] = json.loads(json.dumps(decoded))
    return template


@cache
def _expanded() -> str:
    template = source()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":  # as `aws cloudformation package` does
            resource["Properties"]["CodeUri"] = "s3://packages/lambda_worker.zip"
    # No managed policies are needed: the template defines its roles, so SAM does not generate any.
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="eu-west-1"))
    return json.dumps(translator.translate(template, parameter_values={}))


def expanded() -> dict[str, Any]:
    """Return the CloudFormation template that SAM generates. The caller may change the copy."""
    template: dict[str, Any] = json.loads(_expanded())
    return template


TIMEOUTS = source()["Parameters"]["FunctionTimeoutSeconds"]["AllowedValues"]
PARAMETERS = source()["Parameters"]
BUCKETS = ("PayloadsBucket", "FailuresBucket")
QUEUES = ("Queue", "DeadLetterQueue")

BEHIND = {"Queue": "WorkerFunction", "DeadLetterQueue": "DeadLetterFunction"}
"""The function that each queue triggers."""


class Stack:
    """The expanded template with values for its parameters.

    A reference to a resource becomes the name of that resource in the template, such as `Queue` or `Queue.Arn`.
    """

    def __init__(self, **parameters: Any) -> None:
        self._template = expanded()
        defaults = {
            name: parameter["Default"].split(",") if "List" in parameter["Type"] else parameter["Default"]
            for name, parameter in self._template["Parameters"].items()
            if "Default" in parameter
        }
        self._names = {**PSEUDO, "BaseUrl": "https://shop.example", **defaults, **parameters}

    def properties(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = self._value(self._template["Resources"][name]["Properties"])
        return values

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of all resources of a type that exist with these parameters."""
        return {
            name: self.properties(name)
            for name, resource in self._template["Resources"].items()
            if resource["Type"] == kind and self._is_met(resource.get("Condition"))
        }

    def _is_met(self, condition: str | None) -> bool:
        return condition is None or bool(self._value(self._template["Conditions"][condition]))

    def _value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for value in map(self._value, node) if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name, argument)
        values = {name: self._value(value) for name, value in node.items()}
        return {name: value for name, value in values.items() if value is not NO_VALUE}

    def _function(self, name: str, argument: Any) -> Any:  # noqa: PLR0911 - one return for each function of CloudFormation
        match name, argument:
            case "Ref", _:
                return self._names.get(argument, argument)
            case "Fn::GetAtt", _:
                return ".".join(argument)
            case "Fn::Sub", str():
                return re.sub(r"\$\{([^}]+)\}", lambda found: str(self._names.get(found[1], found[1])), argument)
            case "Fn::If", [condition, yes, no]:
                return self._value(yes if self._is_met(condition) else no)
            case "Fn::Equals", [one, other]:
                return self._value(one) == self._value(other)
            case "Fn::Not", [condition]:
                return not self._value(condition)
            case "Fn::Join", [separator, parts]:
                return separator.join(self._value(parts))
            case "Fn::FindInMap", _:
                table, row, column = map(self._value, argument)
                return self._template["Mappings"][table][row][column]
        raise AssertionError(f"This class does not support {name}, which the template uses.")


def statements(document: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the effect, actions and resources of each statement of a policy."""
    for statement in document["Statement"]:
        actions, resources = statement["Action"], statement["Resource"]
        yield (
            statement["Effect"],
            actions if isinstance(actions, list) else [actions],
            resources if isinstance(resources, list) else [resources],
        )


def allowed(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the pairs of action and resource that a policy allows."""
    return {
        (action, resource)
        for effect, actions, resources in statements(document)
        if effect == "Allow"
        for action in actions
        for resource in resources
    }
