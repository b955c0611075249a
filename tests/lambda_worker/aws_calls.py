"""Records the calls that code makes to AWS, as the permissions that they need."""

from __future__ import annotations

import ast
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import boto3
from botocore.client import BaseClient
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

PERMISSIONS = {
    "ChangeMessageVisibility": "sqs:ChangeMessageVisibility",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "GetQueueUrl": "sqs:GetQueueUrl",
    "GetSecretValue": "secretsmanager:GetSecretValue",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "PutObject": "s3:PutObject",
    "SendMessage": "sqs:SendMessage",
    "SendMessageBatch": "sqs:SendMessage",
}
"""The permission for each operation, from AWS's Service Authorization Reference."""

OBJECT_PERMISSIONS = {"s3:DeleteObject", "s3:GetObject", "s3:PutObject"}
"""Permissions on the objects in a bucket. All others are permissions on the bucket, queue or secret itself."""

SERVICES = ("s3", "sqs", "secretsmanager")


class Calls:
    """The recorded operations, and the permissions that they need."""

    def __init__(self, resources: Mapping[str, str], own: Collection[BaseClient]) -> None:
        self._resources, self._own = resources, own
        self.operations: set[str] = set()
        self.permissions: set[tuple[str, str]] = set()

    def record(self, client: BaseClient, operation: str, params: Mapping[str, Any], status: int) -> None:
        if client in self._own:
            return
        self.operations.add(operation)
        action = PERMISSIONS[operation]
        name = next(params[key] for key in ("Bucket", "QueueUrl", "QueueName", "SecretId") if key in params)
        resource = self._resources[name]
        self.permissions.add((action, f"{resource}/*" if action in OBJECT_PERMISSIONS else resource))
        if status == HTTPStatus.NOT_FOUND:  # without this permission, S3 answers 403 for a missing object
            self.permissions.add(("s3:ListBucket", resource))


@contextmanager
def recorded(resources: Mapping[str, str], own: Collection[BaseClient]) -> Iterator[Calls]:
    """Record the calls of every boto3 client except the test's own clients.

    `resources` maps the names of the buckets, queues and secrets to their names in the template.
    """
    calls = Calls(resources, own)
    make_api_call = BaseClient._make_api_call  # type: ignore[attr-defined] # private, but all calls go through it

    def recording(client: BaseClient, operation: str, params: dict[str, Any]) -> Any:
        status = HTTPStatus.OK.value
        try:
            return make_api_call(client, operation, params)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise
        finally:
            calls.record(client, operation, params, status)

    with patch.object(BaseClient, "_make_api_call", recording):
        yield calls


def called_in(modules: Iterable[Path]) -> set[str]:
    """Return the operations that the source code names: as a method called with keywords only, or as a paginator."""
    session = boto3.Session("local", "local", region_name="us-east-1")
    clients = [session.client(service) for service in SERVICES]  # type: ignore[call-overload] # any service's name
    operations = {method: name for client in clients for method, name in client.meta.method_to_api_mapping.items()}
    found: set[str] = set()
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
                found.add(node.func.attr)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return {operations[name] for name in found & operations.keys()}
