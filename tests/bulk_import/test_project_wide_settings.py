"""Settings that a project makes for all of its views do not change ours, and its endpoints keep their own ways.

DRF copies its settings into class attributes when it is imported, so these tests set the attributes.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import include, path
from rest_framework.exceptions import AuthenticationFailed, ErrorDetail
from rest_framework.parsers import FormParser, JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.test import APIClient
from rest_framework.throttling import BaseThrottle
from rest_framework.versioning import AcceptHeaderVersioning, URLPathVersioning
from rest_framework.views import APIView, exception_handler

from bulk_import.conf import conf
from bulk_import.errors import error_response
from bulk_import.management.arguments import request_of
from bulk_import.metrics import metrics
from bulk_import.models import ImportChunk
from bulk_import_wire.contract import VERDICT_HEADER
from products.models import Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import Aws, call, claim, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.response import Response

    from bulk_import_wire.message import ChunkMessage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


def renamed(value: Any, rename: Any) -> Any:
    """Return the value with all keys of its objects renamed."""
    if isinstance(value, dict):
        return {rename(str(key)): renamed(part, rename) for key, part in value.items()}
    return [renamed(part, rename) for part in value] if isinstance(value, list | tuple) else value


class CamelCaseParser(JSONParser):
    """Reads `weightKg` as `weight_kg`, as the parser of djangorestframework-camel-case does."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        value = super().parse(*args, **kwargs)
        return renamed(value, lambda key: re.sub("[A-Z]", lambda match: "_" + match[0].lower(), key))


class CamelCaseRenderer(JSONRenderer):
    def render(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        data = renamed(data, lambda key: re.sub("_([a-z])", lambda match: match[1].upper(), key))
        return super().render(data, *args, **kwargs)


class CamelCaseView(ProductViewSet):
    parser_classes = [FormParser, CamelCaseParser]
    renderer_classes = [CamelCaseRenderer]


urlpatterns = [
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("bulk-import/metrics", metrics),
    path("products/", CamelCaseView.as_view({"post": "create"}), name="camel-case"),
]


class NoVersion(AcceptHeaderVersioning):
    """Accepts no version at all."""

    def determine_version(self, *_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("the project's versioning was asked")


class NoRequest(BaseThrottle):
    def allow_request(self, _request: Any, _view: Any) -> bool:
        return False


class NoNegotiation:
    def select_parser(self, *_args: Any) -> Any:
        raise AssertionError("the project's negotiation was asked")

    select_renderer = select_parser


DEFAULTS = {
    "versioning_class": NoVersion,
    "throttle_classes": [NoRequest],
    "content_negotiation_class": NoNegotiation,
    "parser_classes": [FormParser],
    "metadata_class": None,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_project_wide_defaults_of_drf_do_not_reach_our_views(
    name: str, client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIView, name, DEFAULTS[name])

    location = post_rows(client_of_merchandiser, [product("A")])["Location"]
    [message] = aws.messages()

    assert call(worker, "claim", message).status_code == 200
    for address in (location, f"{location}/failures", "/products/bulk"):
        assert client_of_merchandiser.get(address).status_code == 200
    assert client_of_merchandiser.post(f"{location}/retry").status_code == 200
    assert client_of_merchandiser.options(location).status_code == 200


def test_url_path_versioning_does_not_hide_our_views(
    client_of_merchandiser: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "ALLOWED_VERSIONS": ["v1"], "URL_FORMAT_OVERRIDE": None}
    monkeypatch.setattr(APIView, "versioning_class", URLPathVersioning)

    location = post_rows(client_of_merchandiser, [product("A")])["Location"]

    assert client_of_merchandiser.get(f"{location}/failures?format=csv")["Content-Type"].startswith("text/csv")


def test_a_login_that_all_views_require_does_not_hide_the_metrics(settings: Settings) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE[:-1],
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
        settings.MIDDLEWARE[-1],
    ]
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "METRICS_SECRETS": ["x" * 32]}

    assert APIClient().get("/bulk-import/metrics", headers={"Authorization": "Bearer " + "x" * 32}).status_code == 200


# --- The project's exception handler


def own_format(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer errors as `{"ok": false, "errors": [{"name", "text"}]}`, like the exception handler of some project."""
    response = exception_handler(error, context)
    if response is not None:
        errors = [{"name": name, "text": str(texts)} for name, texts in dict(response.data).items()]
        response.data = {"ok": False, "errors": errors}
    return response


def test_the_problems_of_a_row_do_not_depend_on_the_exception_handler_of_the_project(
    messages: list[ChunkMessage], worker: APIClient, settings: Settings
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": f"{__name__}.own_format"}
    token = claim(worker, messages[0]).token
    ImportChunk.objects.update(row_hashes=b"")  # so that this row may be created
    headers = {"Authorization": f"Import {token}", "Idempotency-Key": f"{messages[0].job_id}:0"}

    answer = APIClient().post("/products/", product("A", category="kayaks"), format="json", headers=headers)

    assert (answer.status_code, answer[VERDICT_HEADER]) == (400, "not-created")
    [error] = answer.json()["errors"]
    assert (error["field"], error["code"]) == ("category", "does_not_exist")
    assert error["message"] == "There is no category “kayaks”."


def test_a_person_still_gets_the_format_of_the_project(client_of_merchandiser: APIClient, settings: Settings) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": f"{__name__}.own_format"}

    answer = client_of_merchandiser.post("/products/", product("A", category="kayaks"), format="json")

    assert answer.json()["ok"] is False


# --- The parser of the target's view


@pytest.fixture
def _camel_case(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "create_url": "camel-case", "detail_url": ""}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}


def camel_case(sku: str, **fields: Any) -> dict[str, Any]:
    return {**product(sku), **fields}


@pytest.mark.usefixtures("_camel_case")
def test_rows_are_validated_as_the_view_parses_them(client_of_merchandiser: APIClient, aws: Aws) -> None:
    rows = [camel_case("A", weightKg="1.5"), camel_case("B", weightKg="heavy"), camel_case("C", isActive="perhaps")]

    answer = post_rows(client_of_merchandiser, rows)

    assert answer.status_code == 400
    assert [(error["index"], error["field"]) for error in answer.json()["errors"]] == [(1, "weightKg"), (2, "isActive")]


@pytest.mark.usefixtures("_camel_case")
def test_rows_of_a_view_with_its_own_parser_are_created(client_of_merchandiser: APIClient, run_worker: Any) -> None:
    rows = [camel_case("A", weightKg="1.5", isActive=False), camel_case("B", price="0", isActive=True)]
    location = post_rows(client_of_merchandiser, rows)["Location"]

    run_worker()

    document = client_of_merchandiser.get(location).json()
    assert document["counts"]["created"] == 1
    assert [problem["field"] for problem in document["problems"]] == ["price"]
    created = Product.objects.get()
    assert (str(created.weight_kg), created.is_active) == ("1.500", False)


@pytest.mark.usefixtures("_camel_case")
def test_the_columns_of_the_failures_are_named_as_they_were_sent(
    client_of_merchandiser: APIClient, run_worker: Any
) -> None:
    rows = [camel_case("A", category="kayaks", weightKg="1.5")]
    location = post_rows(client_of_merchandiser, rows)["Location"]

    run_worker()

    table = b"".join(client_of_merchandiser.get(f"{location}/failures?format=csv&part=rows")).decode("utf-8-sig")
    [failed] = csv.DictReader(table.splitlines())
    assert (failed["weightKg"], failed["other fields"]) == ("1.5", "")


def test_an_error_with_several_fields_has_the_text_of_one() -> None:
    """Simple JWT refuses an expired token like this."""
    error = AuthenticationFailed({"detail": ErrorDetail("The token is expired.", "token_not_valid"), "messages": []})

    answer = error_response(error, {})

    assert answer is not None
    assert answer.data == {"code": "token_not_valid", "message": "The token is expired."}


def test_the_command_line_asks_permissions_like_a_request_to_the_endpoint(merchandiser: Any) -> None:
    """A permission class may read the session, and the arguments of the endpoint's URL."""
    request = request_of(merchandiser.get_username())
    view = conf().target("products").create_view(request)

    assert request.session.get("language") is None
    assert getattr(view.request.resolver_match, "view_name", "") == "products:product-list"
    assert request._request.resolver_match is None
