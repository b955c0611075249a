"""The Serverless Framework turns `serverless.yml` into the same stack as the template."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.lambda_worker import sam_template

if TYPE_CHECKING:
    from pathlib import Path

NPX = shutil.which("npx")
FRAMEWORK = "osls@3.77.1"  # the maintained fork of the Serverless Framework 3; version 4 requires a license
CODE = "s3://packages/lambda_worker-7.zip"
BASE_URL = "https://shop.example"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(NPX is None, reason="Needs npx: apt-get install npm"),
]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the stack that would be deployed. This needs no AWS account."""
    service = tmp_path_factory.mktemp("service")
    for name in ("serverless.yml", "template.yaml"):
        shutil.copy(sam_template.TEMPLATE.parent / name, service)
    parameters = [f"--param=BaseUrl={BASE_URL}", f"--param=Code={CODE}"]
    ours = {"AWS_REGION": "eu-west-1", "SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off"}
    done = subprocess.run(
        [str(NPX), "--yes", FRAMEWORK, "package", *parameters],
        cwd=service,
        env=os.environ | ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return service / ".serverless"


def test_the_stack_is_the_template_and_the_frameworks_own_bucket(packaged: Path) -> None:
    template: dict[str, Any] = json.loads((packaged / "cloudformation-template-update-stack.json").read_text())
    expected = sam_template.source()
    for name in ("WorkerFunction", "DeadLetterFunction"):
        expected["Resources"][name]["Properties"]["CodeUri"] = CODE

    own = {name: template["Resources"].pop(name) for name in [*template["Resources"]] if name.startswith("Serverless")}
    assert {resource["Type"] for resource in own.values()} == {"AWS::S3::Bucket", "AWS::S3::BucketPolicy"}
    assert template["Outputs"].pop("ServerlessDeploymentBucketName")
    assert template.pop("Transform") == [expected.pop("Transform")]
    assert template.keys() == expected.keys()
    for section in expected.keys() - {"Description"}:
        assert template[section] == expected[section], section


def test_the_base_url_becomes_a_parameter_of_the_stack(packaged: Path) -> None:
    state = json.loads((packaged / "serverless-state.json").read_text())

    assert state["service"]["provider"]["stackParameters"] == [
        {"ParameterKey": "BaseUrl", "ParameterValue": BASE_URL},
    ]
