"""Imports on sites that are deployed in unusual ways: by host, below a prefix, behind a gateway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.urls import clear_script_prefix, include, path, set_script_prefix
from pytest_django.live_server_helper import LiveServer
from rest_framework.authentication import BaseAuthentication
from rest_framework.test import APIClient

from bulk_import.checks import check_configuration
from bulk_import.doctor.endpoints import examine_create_calls
from bulk_import.errors import flatten_errors
from bulk_import.models import ImportJob
from bulk_import_wire.contract import VERDICT_HEADER
from bulk_import_wire.findings import Level
from products.models import Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import claim, post_rows, product
from tests.bulk_import.test_doctor import doctor
from tests.bulk_import.test_doctor import shop as working_shop  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from django.http import HttpRequest
    from pytest_django import Settings
    from rest_framework.response import Response

    from bulk_import_wire.message import ChunkMessage
    from tests.bulk_import.conftest import Aws

pytestmark = pytest.mark.django_db(transaction=True)

calls: list[str] = []
"""The SKUs of the create calls that UnusualView received."""


class UnusualView(ProductViewSet):
    """Writes the host of the request into the description, and answers some creations with 200."""

    def create(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        calls.append(request.data["sku"])
        response = super().create(request, *args, **kwargs)
        if request.data["sku"].startswith("200"):
            response.status_code = 200
        return response

    def perform_create(self, serializer: Any) -> None:
        serializer.save(description=self.request.get_host())


urlpatterns = [
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("products/", UnusualView.as_view({"post": "create"}), name="unusual"),
]


known_schemes = {"Bearer", "Basic", "Import"}


def rejecting_gateway(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware that rejects an Authorization header that it does not know."""

    def answer(request: HttpRequest) -> Any:
        if request.headers.get("Authorization", "Bearer").partition(" ")[0] not in known_schemes:
            return HttpResponse("unknown scheme", status=401)
        return get_response(request)

    return answer


@pytest.fixture
def _unusual(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "create_url": "unusual", "detail_url": ""}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    calls.clear()


def submit(client: APIClient, *skus: str, host: str = "testserver") -> None:
    answer = post_rows(client, [product(sku) for sku in skus], HTTP_HOST=host)
    assert answer.status_code == 202, answer.content


def broken(*arguments: str) -> dict[str, str]:
    """Return what the doctor says to change. Without a user it also says that it tried no row."""
    _code, findings = doctor(*arguments)
    errors = [finding for finding in findings if finding["level"] == "error"]
    return {error["subject"]: error["fix"] for error in errors if not error["message"].startswith("NOT CHECKED")}


# --- Tenants by host


@pytest.mark.one_database
@pytest.mark.usefixtures("_unusual")
@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
def test_rows_are_created_under_the_host_of_the_submitter(
    header: str, client_of_merchandiser: APIClient, run_worker: Any, settings: Settings
) -> None:
    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, "north.example"]
    settings.USE_X_FORWARDED_HOST = header != "Host"
    if header != "Host":
        settings.BULK_IMPORT = {**settings.BULK_IMPORT, "HOST_HEADER": header}
    submit(client_of_merchandiser, "A", host="north.example")

    run_worker()

    assert Product.objects.get().description == "north.example"


def test_an_undo_and_a_correction_have_the_host_of_their_import(
    client_of_merchandiser: APIClient, run_worker: Any, settings: Settings, merchandiser: Any
) -> None:
    """Another host may belong to another tenant, whose objects may even have the same IDs and columns."""
    settings.ALLOWED_HOSTS = ["testserver", "localhost", "north.example", "south.example"]
    merchandiser.user_permissions.add(Permission.objects.get(codename="delete_product"))
    rows = [product("A"), product("B", category="unknown")]
    job_id = post_rows(client_of_merchandiser, rows, HTTP_HOST="north.example").json()["id"]
    run_worker()

    corrections: Any = {"rows": {"1": {"category": "tents"}}}
    url = f"/products/bulk/{job_id}"
    south: Any = {"format": "json", "HTTP_HOST": "south.example"}
    corrected = client_of_merchandiser.post(f"{url}/correct", corrections, **south)
    run_worker()
    undone = client_of_merchandiser.post(f"{url}/undo", **south)

    assert (corrected.status_code, undone.status_code) == (202, 202), (corrected.content, undone.content)
    assert [job.host for job in ImportJob.objects.all()] == ["north.example"] * 3


@pytest.mark.one_database
@pytest.mark.usefixtures("_unusual")
def test_the_command_line_names_the_host_of_the_tenant(
    aws: Aws, merchandiser: Any, run_worker: Any, settings: Settings, tmp_path: Path
) -> None:
    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, "north.example"]
    (tmp_path / "rows.json").write_text(json.dumps([product("A")]))
    arguments = ["bulk_import", str(tmp_path / "rows.json"), "--user", merchandiser.get_username(), "--host"]

    with pytest.raises(CommandError, match="Invalid HTTP_HOST header"):
        call_command(*arguments, "south.example")
    call_command(*arguments, "north.example")
    run_worker()

    assert Product.objects.get().description == "north.example"


class TeamAuthentication(BaseAuthentication):
    def authenticate(self, _request: Any) -> tuple[Any, str]:
        return AnonymousUser(), "token of a team"


@pytest.mark.one_database
@pytest.mark.usefixtures("_unusual")
def test_credentials_without_a_user_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnusualView, "authentication_classes", [TeamAuthentication])

    refused = post_rows(APIClient(), [product("A")])

    assert (refused.status_code, refused.json()["code"]) == (403, "no_user")
    assert "Send the credentials of a user." in refused.json()["message"]


@pytest.mark.one_database
@pytest.mark.usefixtures("_unusual")
def test_without_a_host_header_the_rows_are_created_under_the_host_of_the_base_url(
    client_of_merchandiser: APIClient, run_worker: Any, settings: Settings, live_server: LiveServer
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "HOST_HEADER": ""}
    submit(client_of_merchandiser, "A")

    run_worker()

    assert Product.objects.get().description == live_server.url.removeprefix("http://")


@pytest.mark.one_database
def test_the_create_calls_of_the_doctor_reach_a_site_that_knows_only_its_public_host(
    live_server: LiveServer, settings: Settings
) -> None:
    settings.ALLOWED_HOSTS = ["north.example"]
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PUBLIC_URL": "https://north.example"}

    assert {finding.level for finding in examine_create_calls(live_server.url, ["products"])} == {Level.OK}


# --- A prefix of the site


@pytest.fixture
def _below_a_prefix(settings: Settings) -> Iterator[None]:
    settings.FORCE_SCRIPT_NAME = "/shop"
    set_script_prefix("/shop/")  # as django.setup() does
    yield
    clear_script_prefix()


@pytest.mark.one_database
@pytest.mark.usefixtures("_below_a_prefix")
def test_a_site_below_a_prefix_imports(client_of_merchandiser: APIClient, run_worker: Any) -> None:
    submit(client_of_merchandiser, "A", "B")

    run_worker()

    assert Product.objects.count() == 2


@pytest.mark.one_database
@pytest.mark.usefixtures("_below_a_prefix", "working_shop")
def test_the_doctor_finds_no_fault_in_a_site_below_a_prefix(live_server: LiveServer) -> None:
    assert broken("--base-url", live_server.url) == {}


@pytest.mark.one_database
@pytest.mark.usefixtures("working_shop")
def test_the_doctor_reports_a_base_url_with_a_wrong_prefix(live_server: LiveServer) -> None:
    found = broken("--base-url", f"{live_server.url}/elsewhere")

    assert found.keys() == {"worker API", "target products"}
    assert all("BULK_IMPORT_BASE_URL" in fix for fix in found.values())


@pytest.mark.one_database
def test_a_call_that_reaches_another_path_has_its_own_verdict(messages: list[ChunkMessage], worker: APIClient) -> None:
    headers = {
        "Authorization": f"Import {claim(worker, messages[0]).token}",
        "Idempotency-Key": f"{messages[0].job_id}:0",
    }

    answer = APIClient().post("/products/1/", product("A"), format="json", headers=headers)

    assert (answer.status_code, answer[VERDICT_HEADER]) == (403, "wrong-endpoint")


# --- A gateway that rejects the token


@pytest.fixture
def _gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.known_schemes", {"Bearer", "Basic"})


@pytest.fixture
def live_server(settings: Settings, transactional_db: None) -> Iterator[LiveServer]:
    """A server of this module's own, because a server reads MIDDLEWARE only when it starts."""
    settings.MIDDLEWARE = [f"{__name__}.rejecting_gateway", *settings.MIDDLEWARE]
    server = LiveServer("localhost")
    yield server
    server.stop()


@pytest.mark.one_database
@pytest.mark.usefixtures("_gateway")
def test_a_gateway_that_rejects_the_token_is_named_as_such(client_of_merchandiser: APIClient, run_worker: Any) -> None:
    submit(client_of_merchandiser, "A")

    run_worker()

    job = ImportJob.objects.get()
    assert (job.status, job.pause_code) == ("paused", "token_rejected")
    assert "Authorization header" in str(job.get_pause_code_display())


@pytest.mark.one_database
@pytest.mark.usefixtures("_gateway", "working_shop")
def test_another_header_for_the_token_passes_the_gateway(
    client_of_merchandiser: APIClient, run_worker: Any, settings: Settings, live_server: LiveServer
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TOKEN_HEADER": "X-Import-Token"}
    submit(client_of_merchandiser, "A")

    run_worker()

    assert ImportJob.objects.get().status == "succeeded"
    assert broken("--base-url", live_server.url) == {}


@pytest.mark.one_database
@pytest.mark.parametrize("setting", [{"TOKEN_HEADER": ""}, {"TOKEN_HEADER": "X_Y"}, {"HOST_HEADER": "a b"}])
def test_a_setting_that_is_not_the_name_of_a_header_is_reported(setting: dict[str, str], settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **setting}

    assert [error.id for error in check_configuration()] == ["bulk_import.E001"]


# --- Other statuses than 201


@pytest.mark.usefixtures("_unusual")
def test_a_success_that_is_not_a_creation_pauses_the_job(
    client_of_merchandiser: APIClient, run_worker: Any, settings: Settings, worker: APIClient
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "CONCURRENCY": 1}
    submit(client_of_merchandiser, "200-A", "200-B")

    run_worker()

    job = ImportJob.objects.get()
    assert (job.status, job.pause_code, calls) == ("paused", "wrong_status", ["200-A", "200-B"])
    assert "success_statuses" in str(job.get_pause_code_display())
    assert not Product.objects.exists()


@pytest.mark.usefixtures("_unusual")
def test_the_first_row_with_another_status_fails_if_others_are_created(
    client_of_merchandiser: APIClient, run_worker: Any, settings: Settings
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "CONCURRENCY": 1}
    submit(client_of_merchandiser, "200-B", "A", "C")

    run_worker()

    job = ImportJob.objects.for_reports().get()
    assert (job.counts["created"], job.counts["failed"], sorted(calls)) == (2, 1, ["200-B", "A", "C"])
    assert [problem["code"] for problem in job.problems] == ["not_created"]
    assert "success_statuses" in job.problems[0]["message"]


@pytest.mark.usefixtures("_unusual")
def test_the_statuses_of_a_creation_are_a_setting_of_the_target(
    client_of_merchandiser: APIClient, run_worker: Any, settings: Settings
) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "success_statuses": [200, 201]}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    submit(client_of_merchandiser, "A", "200-B")

    run_worker()

    assert ImportJob.objects.get().status == "succeeded"
    assert Product.objects.count() == 2


@pytest.mark.one_database
@pytest.mark.parametrize("statuses", [[], [400], ["201"], 201])
def test_statuses_that_are_not_successes_are_reported(statuses: Any, settings: Settings) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "success_statuses": statuses}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    assert [error.id for error in check_configuration()] == ["bulk_import.E007"]


# --- Nested errors of DRF


@pytest.mark.one_database
@pytest.mark.parametrize(
    "detail",
    [
        {"sizes": [{}, {"name": ["Required."]}, {}, {"name": ["Required."]}]},  # before DRF 3.18
        {"sizes": {1: {"name": ["Required."]}, 3: {"name": ["Required."]}}},  # since DRF 3.18
    ],
)
def test_nested_errors_are_the_same_with_each_version_of_drf(detail: dict[str, Any]) -> None:
    assert [error["field"] for error in flatten_errors(detail)] == ["sizes.1.name", "sizes.3.name"]
