"""What `bulk_import_init` and `bulk_import_local` refuse. tests/monoliths uses both on real projects."""

from __future__ import annotations

import logging
import signal
from collections import defaultdict
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.urls import path
from rest_framework.permissions import BasePermission
from rest_framework.serializers import Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from bulk_import.management.arguments import request_of
from bulk_import.management.quiet import CLIENTS
from bulk_import.versions import check_versions
from tests.bulk_import.conftest import WORKER_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from tests.bulk_import.conftest import Aws


class One(Serializer[Any]):
    pass


class Other(Serializer[Any]):
    pass


class ByAction(GenericViewSet[Any]):
    serializer_class = Other

    def create(self, request: Any) -> None:
        pass

    def get_serializer_class(self) -> Any:
        return One if self.action == "create" else Other


class ReadsAuth(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:  # noqa: ARG002 - DRF's signature
        return request.auth is None and request.user.is_authenticated


class Plain(APIView):
    def post(self, request: Any) -> HttpResponse:  # noqa: ARG002 - DRF's signature
        return HttpResponse(status=201)


urlpatterns = [
    path("by-action/", ByAction.as_view({"post": "create"}), name="by-action"),
    path("plain/", Plain.as_view(), name="plain"),
    path("plain.<format>", Plain.as_view(), name="plain"),  # as DRF's format suffixes
    path("stores/<int:store>/items/", Plain.as_view(), name="items"),
    path("page/", lambda _request: HttpResponse(), name="page"),
]


@pytest.fixture
def _signals() -> Iterator[None]:
    """Restore the signal handlers that `bulk_import_local` replaces."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def printed(*arguments: str) -> str:
    output = StringIO()
    call_command("bulk_import_init", *arguments, stdout=output)
    return output.getvalue()


def test_what_is_there_already_is_left_out() -> None:
    text = printed("products:product-list")

    assert text.startswith("# settings: nothing to add\n# urls: nothing to add\n")


def test_a_target_is_added_to_those_that_exist() -> None:
    text = printed("products:product-list", "--target", "goods", "--part", "settings")

    assert text.startswith('BULK_IMPORT["TARGETS"]["goods"] = {\n')
    assert '"serializer": "products.serializers.ProductSerializer"' in text
    assert '# "lookup": "sku"' in text
    assert "QUEUE_URL" not in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-name"], "products:product-list"),
        (["products:product-list", "--kwargs", "version"], "--kwargs NAME=VALUE"),
    ],
)
def test_a_wrong_url_name_gets_suggestions(arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        printed(*arguments)


def test_suggestions_begin_with_the_most_similar_names(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__

    with pytest.raises(CommandError, match=r"POST: items, plain, by-action$"):  # each only once
        printed("item-list")


def test_settings_that_the_module_does_not_define_are_not_extended(settings: Settings) -> None:
    settings.SETTINGS_MODULE = "tests.bulk_import.test_setup_commands"
    settings.MIDDLEWARE = []
    assert '\nMIDDLEWARE = ["bulk_import.middleware' in "\n" + printed("products:product-list", "--part", "settings")


def test_settings_that_are_in_a_file_of_dynaconf_are_repeated(settings: Settings) -> None:
    settings.SETTINGS_MODULE = "/etc/shop/settings.py"
    settings.MIDDLEWARE = ["shop.middleware.One"]
    storages = {"default": {"BACKEND": "shop.Storage", "OPTIONS": {"location": Path("/srv"), "signed": False}}}
    settings.STORAGES = storages

    text = printed("products:product-list", "--part", "settings")

    assert 'MIDDLEWARE = ["shop.middleware.One", "bulk_import.middleware' in text
    defined: dict[str, Any] = {"environ": defaultdict(str)}
    exec(text.replace("os.environ", "environ"), defined)  # noqa: S102 - the lines are Python
    repeated = {"BACKEND": "shop.Storage", "OPTIONS": {"location": "/srv", "signed": False}}
    assert defined["STORAGES"]["default"] == repeated


def test_a_serializer_that_depends_on_the_action_is_that_of_create(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__

    assert f'"serializer": "{__name__}.One"' in printed("by-action", "--part", "settings")


@pytest.mark.django_db
def test_on_the_command_line_a_permission_class_may_read_auth(django_user_model: Any) -> None:
    django_user_model.objects.create_user("anna")
    request = request_of("anna")

    assert ReadsAuth().has_permission(request, None)
    assert request.user.get_username() == "anna"


@pytest.mark.parametrize(("name", "says"), [("plain", "--serializer"), ("items", "--kwargs"), ("page", "DRF view")])
def test_an_endpoint_that_does_not_tell_enough(settings: Settings, name: str, says: str) -> None:
    settings.ROOT_URLCONF = __name__

    with pytest.raises(CommandError, match=says):
        printed(name)


@pytest.mark.usefixtures("_signals")
def test_the_local_command_never_uses_services_elsewhere(settings: Settings) -> None:
    client = {**settings.BULK_IMPORT["QUEUE_CLIENT"], "endpoint_url": "https://sqs.eu-west-1.amazonaws.com"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "QUEUE_CLIENT": client, "WORKER_SECRETS": [WORKER_SECRET]}

    with pytest.raises(CommandError, match=r"lead to .*https://sqs\.eu-west-1\.amazonaws\.com.* Set AWS_ENDPOINT_URL="):
        call_command("bulk_import_local", skip_checks=True)


@pytest.mark.usefixtures("_signals")
def test_the_local_command_finds_that_its_port_is_in_use(aws: Aws) -> None:
    with pytest.raises(CommandError, match="is in use"):
        call_command("bulk_import_local", skip_checks=True)


@pytest.mark.parametrize(("django", "drf"), [((4, 2, 16), "3.18.0"), ((5, 1, 0), "3.18.0"), ((5, 2, 0), "3.16.1")])
def test_versions_that_are_too_old_are_refused(django: tuple[int, ...], drf: str) -> None:
    with pytest.raises(Exception, match=r"tested with Django 5\.2 to 6\.1.*pip install --upgrade"):
        check_versions(django, drf)


@pytest.mark.parametrize(("verbosity", "is_logged"), [(1, False), (2, True)])
def test_the_debug_lines_of_clients_are_logged_only_on_request(*, verbosity: int, is_logged: bool) -> None:
    loggers = [logging.getLogger(name) for name in CLIENTS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        with suppress(SystemExit, CommandError):
            call_command("bulk_import_doctor", verbosity=verbosity, stdout=StringIO())
        assert {logger.isEnabledFor(logging.DEBUG) for logger in loggers} == {is_logged}
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
