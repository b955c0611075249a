"""What the Serverless Framework makes of `serverless.yml` is the template, with the zip's place in it."""

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
FRAMEWORK = "osls@3.77.1"  # the Serverless Framework 3 as its users keep it up; the Framework 4 asks for a licence
CODE = "s3://packages/lambda_worker-7.zip"
BASE_URL = "https://shop.example"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(NPX is None, reason="Needs npx: apt-get install npm"),
]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be deployed. It needs no account."""
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


def test_it_is_the_template_and_a_bucket_of_the_frameworks_own(packaged: Path) -> None:
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


def test_the_monoliths_url_becomes_the_stacks_parameter(packaged: Path) -> None:
    state = json.loads((packaged / "serverless-state.json").read_text())

    assert state["service"]["provider"]["stackParameters"] == [
        {"ParameterKey": "BaseUrl", "ParameterValue": BASE_URL},
    ]
