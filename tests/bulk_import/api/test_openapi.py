"""The API's schema: valid, true of the actual answers, and attacked by schemathesis."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import schemathesis
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework.exceptions import APIException
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from bulk_import.intake.formats import ODS, XLS, XLSX
from bulk_import.intake.json_rows import UNREADABLE_ROW_CODES
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import_wire.contract import DEAD_LETTER, PauseCode
from tests.bulk_import import second_target
from tests.bulk_import.conftest import Aws, post_rows, product
from tests.examples import examples, is_postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings
    from rest_framework.test import APIClient

PROJECT = Path(__file__).resolve().parents[3]


def call_compressed(environ: dict[str, Any], start_response: Any) -> Any:
    """The monolith, called by a client that compresses what it calls compressed."""
    is_form = environ.get("CONTENT_TYPE", "").startswith("multipart/")
    if environ.get("HTTP_CONTENT_ENCODING") == "gzip" and not is_form:
        body = gzip.compress(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return monolith()(environ, start_response)


monolith = cache(get_wsgi_application)


loaded = schemathesis.openapi.from_wsgi("/api/schema/?format=json", call_compressed)
loaded.config.update(basic_auth=("merchandiser", "secret"))
# One request for each form of a parameter. They do not depend on the database, so they are sent on SQLite only.
loaded.config.phases.coverage.enabled = not is_postgresql()
bulk_api = loaded.include(path_regex="^/products/bulk")


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_table(rows: list[dict[str, Any]]) -> bytes:
    table = io.StringIO()
    csv.writer(table).writerows([rows[0].keys(), *(row.values() for row in rows)])
    return table.getvalue().encode()


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
good_row = st.builds(product, sku=words, name=words, category=words)
good_rows = st.lists(good_row, min_size=1, max_size=5, unique_by=lambda row: row["sku"])
schemathesis.openapi.media_type("application/x-ndjson", good_rows.map(as_lines))
for table_type in ("text/csv", XLSX, XLS, ODS):  # the bytes say that it is a CSV
    schemathesis.openapi.media_type(table_type, good_rows.map(as_table))

CODES_OF_ROWS = {
    "invalid_rows",
    "no_rows",
    "unknown_column",
    "unknown_field",
    "wrong_encoding",
    "needs_upsert",
    "two_checks",
    "unknown_row",
}
"""Codes of errors that depend on the content of the file, or on two parameters, and not only on the form of one."""


def checks_for_the_serializer(case: Any, response: Any) -> list[Any]:
    """The checks that do not apply because only the rows are in question: the target's serializer judges them.

    It knows more than a JSON Schema (unique values, check digits), and takes "1" for 1.
    """
    if case.method != "POST":
        return []
    if response.status_code == 400 and response.json()["code"] in CODES_OF_ROWS:
        return [positive_data_acceptance]
    wrong = [str(place.value) for place, part in case.meta.components.items() if part.mode.is_negative]
    if wrong == ["body"] and isinstance(case.body, list) and case.body:
        return [negative_data_rejection]
    return []


@pytest.fixture
def _no_quota(settings: Settings) -> None:
    limits = {"SUBMISSION_RATE": "100000/min", "MAX_OPEN_JOBS": 100_000}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **limits}


@pytest.fixture
def _one_connection() -> Iterator[None]:
    """Keep the connection to the database, as Django's test client does: a new one would take longer than a request."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.filterwarnings("default")  # what the attack sends may make Django and DRF warn
@pytest.mark.usefixtures("transactional_db", "aws", "merchandiser", "_no_quota", "_one_connection")
@bulk_api.parametrize()
@hypothesis_settings(max_examples=examples(25), derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_surprises_the_api(case: Any) -> None:
    ImportJob.objects.all().delete()
    response = case.call()
    case.validate_response(response, excluded_checks=checks_for_the_serializer(case, response))


@pytest.fixture
def _two_targets(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.bulk_import.second_target"
    targets = {**settings.BULK_IMPORT["TARGETS"], **second_target.TARGETS}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": targets}


@pytest.mark.parametrize("targets", ["one", "two"])
def test_the_schema_is_valid_without_a_warning(targets: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if targets == "two":
        request.getfixturevalue("_two_targets")

    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


def make_schema() -> dict[str, Any]:
    generator: Any = SchemaGenerator
    schema: dict[str, Any] = generator().get_schema(request=None, public=True)
    return schema


@pytest.mark.usefixtures("_two_targets")
def test_each_target_has_its_own_operations_and_rows() -> None:
    paths = make_schema()["paths"]
    posts = {name: paths[f"/{name}/bulk"]["post"] for name in ("products", "categories")}

    assert {name: post["operationId"] for name, post in posts.items()} == {
        "products": "products_bulk_create",
        "categories": "categories_bulk_create",
    }
    assert posts["products"]["tags"] != posts["categories"]["tags"]
    rows = [post["requestBody"]["content"]["application/json"]["schema"]["items"]["$ref"] for post in posts.values()]
    assert rows == ["#/components/schemas/ProductRequest", "#/components/schemas/CategoryRequest"]
    assert not any("worker" in path for path in paths)


def test_the_browsable_page_needs_nothing_from_elsewhere(client: Any) -> None:
    page = client.get("/api/docs/").content.decode()

    assert "drf_spectacular_sidecar/swagger-ui" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def expect_described(answer: Any, path: str, method: str, status: int, media_type: str = "application/json") -> None:
    """The answer has that status and a body as the schema says, without a property it does not mention."""
    schema = make_schema()
    described = schema["paths"][path][method]["responses"][str(status)]["content"][media_type]["schema"]
    root = {**as_json_schema(described), "components": as_json_schema(schema["components"])}

    assert answer.status_code == status
    jsonschema.Draft202012Validator(root).validate(answer.json())


def as_json_schema(part: Any) -> Any:
    """What OpenAPI 3.0 writes as `nullable`, and objects closed."""
    if isinstance(part, list):
        return [as_json_schema(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    mapped = {name: as_json_schema(value) for name, value in part.items()}
    if mapped.get("type") == "object":
        mapped["additionalProperties"] = False
    return {"anyOf": [mapped, {"type": "null"}]} if mapped.get("nullable") is True else mapped


@pytest.mark.django_db(transaction=True)
def test_the_answers_are_as_the_schema_says(client_of_merchandiser: APIClient, aws: Aws) -> None:
    client, path = client_of_merchandiser, "/products/bulk"
    rows: list[Any] = [product("A"), product("A"), {"sku": "B"}, 5]
    lines = client.post(f"{path}?dry_run=1", as_lines(rows), content_type="application/x-ndjson")
    accepted = post_rows(client, [product("A")])

    expect_described(accepted, path, "post", 202)
    expect_described(lines, path, "post", 200)
    expect_described(post_rows(client, rows), path, "post", 400)
    expect_described(post_rows(client, b"["), path, "post", 400)
    expect_described(post_rows(client, rows, f"{path}?on_invalid=x"), path, "post", 400)
    expect_described(client.get(f"{path}?page_size=1"), path, "get", 200)
    expect_described(client.get(f"{path}?page_size=0"), path, "get", 400)
    expect_described(client.get(accepted["Location"]), f"{path}/{{job_id}}", "get", 200)
    paused_at = timezone.now()
    fields = {"pause_code": PauseCode.ENDPOINT_BUSY, "paused_at": paused_at, "paused_until": paused_at}
    ImportJob.objects.update(status=JobStatus.PAUSED, **fields)
    expect_described(client.get(accepted["Location"]), f"{path}/{{job_id}}", "get", 200)
    resume = f"{accepted['Location']}/resume"
    expect_described(client.post(resume), f"{path}/{{job_id}}/resume", "post", 200)
    ImportJob.objects.update(pause_code=PauseCode.MOST_ROWS_FAILED, paused_until=None)
    expect_described(client.post(resume), f"{path}/{{job_id}}/resume", "post", 202)
    redrive = accepted.json()["links"]["redrive"]
    expect_described(client.post(redrive), f"{path}/{{job_id}}/redrive", "post", 200)
    ImportChunk.objects.update(status=ChunkStatus.DEAD)
    expect_described(client.post(redrive), f"{path}/{{job_id}}/redrive", "post", 202)


@pytest.mark.django_db(transaction=True)
def test_the_answers_about_an_expired_job_are_as_the_schema_says(client_of_merchandiser: APIClient, aws: Aws) -> None:
    client, path = client_of_merchandiser, "/products/bulk/{job_id}"
    location = post_rows(client, [product("A")])["Location"]
    ended_at = timezone.now()
    marks = dict.fromkeys(["finished_at", "payload_expired_at", "failures_expired_at", "ledger_expired_at"], ended_at)
    ImportJob.objects.update(status=JobStatus.FAILED, **marks)

    expect_described(client.get(location), path, "get", 200)
    expect_described(client.get(f"{location}/failures"), f"{path}/failures", "get", 410)
    expect_described(client.get(f"{location}/failures/0"), f"{path}/failures/{{index}}", "get", 410)
    for verb in ("retry", "redrive"):
        expect_described(client.post(f"{location}/{verb}"), f"{path}/{verb}", "post", 410)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["", "/failures"])
def test_a_job_id_that_is_none_is_not_found_like_any_other(client_of_merchandiser: APIClient, path: str) -> None:
    answer = client_of_merchandiser.get(f"/products/bulk/no-such-job{path}")

    expect_described(answer, f"/products/bulk/{{job_id}}{path}", "get", 404)


@pytest.mark.django_db
@pytest.mark.parametrize("cursor", ["p=abc", "p=2026-99-99", "o=abc", "p=%00"])
def test_a_cursor_of_ones_own_is_not_found(client_of_merchandiser: APIClient, cursor: str) -> None:
    answer = client_of_merchandiser.get("/products/bulk", {"cursor": base64.b64encode(cursor.encode()).decode()})

    expect_described(answer, "/products/bulk", "get", 404)


WITHOUT_SPECTACULAR = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.startswith("drf_spectacular") else self.finder.find_spec(name, path, target)

sys.meta_path = [Hiding(finder) for finder in sys.meta_path]

from django.conf import settings
from settings import test
names = {name: getattr(test, name) for name in dir(test) if name.isupper() and name != "SPECTACULAR_SETTINGS"}
names["INSTALLED_APPS"] = [app for app in test.INSTALLED_APPS if not app.startswith("drf_spectacular")]
rest = {name: value for name, value in test.REST_FRAMEWORK.items() if name != "DEFAULT_SCHEMA_CLASS"}
names |= {"REST_FRAMEWORK": rest, "ROOT_URLCONF": "plain_urls"}
settings.configure(**names)

import types
plain = sys.modules["plain_urls"] = types.ModuleType("plain_urls")
import django
django.setup()
from django.urls import include, path
plain.urlpatterns = [
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("products/", include("products.urls")),
    path("admin/", __import__("django.contrib.admin", fromlist=["site"]).site.urls),
]
from django.core.management import call_command
call_command("check", fail_level="WARNING")
assert not any(name.startswith("drf_spectacular") for name in sys.modules)
"""


def test_a_monolith_without_drf_spectacular_works() -> None:
    of_the_stand_in = ["-W", "ignore:The EMAIL_"]  # newer Djangos have other settings for mails
    command = [sys.executable, "-W", "error", *of_the_stand_in, "-c", WITHOUT_SPECTACULAR]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


API_PAGE = (PROJECT / "docs" / "api.md").read_text()
CODES_OF_ENDPOINTS = {"does_not_exist"}
"""In our examples only."""


def codes_in(path: Path) -> set[str]:
    """The codes that a module gives to errors, however it writes them."""
    before = r"""\bcode=|\bcode = |"code": |RowError\(|_error\(|CreateCallError\(HTTPStatus.CONFLICT, """
    return set(re.findall(f'(?:{before})"([a-z_]+)"', path.read_text()))


def test_every_code_is_in_a_table_and_every_one_there_exists() -> None:
    public = [
        path
        for path in (PROJECT / "bulk_import").rglob("*.py")
        if not path.name.startswith("openapi") and path.parent.name not in {"worker_api", "admin", "doctor"}
    ]
    worker = [PROJECT / "lambda_worker" / "refusals.py", PROJECT / "bulk_import_wire" / "problems.py"]
    codes = {code for path in [*public, *worker] for code in codes_in(path)} | set(UNREADABLE_ROW_CODES)
    codes |= {"error", DEAD_LETTER, *(error.default_code for error in APIException.__subclasses__())}
    tables = re.findall(r"^\|(?: status \|)? code \|.*\n((?:\|.*\n)+)", API_PAGE, re.MULTILINE)
    listed = set(re.findall(r"^\|(?: [\d, ]+ \|)? `([a-z_]+)` \|", "".join(tables), re.MULTILINE))

    assert listed - set(JobStatus.values) - codes == set()
    assert codes - listed - CODES_OF_ENDPOINTS == set()


def test_the_snippet_is_on_the_page_word_by_word() -> None:
    assert f"```js\n{(PROJECT / 'docs' / 'import.js').read_text()}```\n" in API_PAGE
