"""A row of a batch is handled exactly as the same row in a create call of its own.

The tests send the same rows both ways, and compare all that can be observed: answers, database, signals, emails, log
lines, and the request that the site's own code sees.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.core import mail, signals
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.http import StreamingHttpResponse
from django.urls import clear_script_prefix, include, path, set_script_prefix
from django.utils.translation import activate, get_language
from django.utils.translation import gettext as _
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework.exceptions import Throttled
from rest_framework.response import Response
from rest_framework.test import APIClient

from bulk_import.models import ImportedRow, ImportJob
from bulk_import.shared_permissions import ENVIRON_KEY
from bulk_import_wire.batch import BATCH_CONTENT_TYPE
from bulk_import_wire.contract import VERDICT_HEADER, Claim
from bulk_import_wire.logs import FIELDS, LogContextFilter
from products.models import Category, Product, StockMovement
from products.views import ProductViewSet
from tests.bulk_import import second_target
from tests.bulk_import.conftest import WORKER_SECRET, Aws, make_user, post_rows, product
from tests.bulk_import.worker_api.batches import Chunk, claimed, read_lines, with_batches
from tests.bulk_import.worker_api.servers import ASGIServer, WSGIServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest
    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

    from tests.bulk_import.worker_api.servers import Server

pytestmark = pytest.mark.django_db(transaction=True)

logger = logging.getLogger("shop")


class MoodyView(ProductViewSet):
    """Does to each row what its `color` says."""

    def create(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        mood = request.data.get("color")
        requests.append(
            {
                "META": {**request.META},
                "url": request.build_absolute_uri(),
                "secure": request.is_secure(),
                "data": request.data,
                "COOKIES": request.COOKIES,
                "user": request.user.username,
            }
        )
        if mood == "throttle":
            raise Throttled(7)
        if mood == "forbid":
            raise PermissionDenied
        if mood == "replace the user":
            request._request.user = None
        response = super().create(request, *args, **kwargs)
        if mood == "stream":
            return StreamingHttpResponse(iter([b"{}"]), status=201)
        if mood == "wrong status":
            return Response({"detail": _("No")}, status=200)
        return response

    def perform_create(self, serializer: Any) -> None:
        mood, sku = serializer.validated_data.get("color"), serializer.validated_data["sku"]
        super().perform_create(serializer)
        if mood == "raise":
            raise RuntimeError("the shop's own bug")
        if mood == "roll back":
            transaction.set_rollback(True)
        if mood == "mail":
            transaction.on_commit(lambda: mail.send_mail(sku, get_language() or "", None, ["shop@shop.example"]))
        if mood == "hook":
            transaction.on_commit(lambda: 1 / 0)
        if mood == "language":
            activate("pt-br")
        if mood == "permissions":
            logger.warning("May delete: %s", self.request.user.has_perm("products.delete_product"))


MOODS = [
    "", "throttle", "forbid", "replace the user", "stream", "wrong status", "raise", "roll back", "mail", "hook",
    "language", "permissions",
]  # fmt: skip

urlpatterns = [
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("products/<int:pk>", MoodyView.as_view({"patch": "partial_update"}), name="moody-detail"),
    path("products/", MoodyView.as_view({"post": "create"}), name="moody"),
]
requests: list[dict[str, Any]] = []
"""What MoodyView has seen of each request."""

languages: list[str | None] = []
"""The active language whenever the middleware below was called."""


paths: list[str] = []
"""The path of each of these calls."""


def one_at_a_time(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware that can serve only one create call at a time."""
    in_flight: list[HttpRequest] = []

    def answer(request: HttpRequest) -> Any:
        if "Idempotency-Key" not in request.headers:
            return get_response(request)
        assert not in_flight
        in_flight.append(request)
        languages.append(get_language())
        paths.append(request.path)
        try:
            return get_response(request)
        finally:
            in_flight.remove(request)

    return answer


# --- The two ways


def submit(client: APIClient, worker: APIClient, aws: Aws, rows: list[dict[str, Any]], query: str) -> list[Chunk]:
    answer = post_rows(client, rows, query)
    assert answer.status_code == 202, answer.content
    return claimed(worker, aws)


BATCH_HEADERS = {"Authorization": f"Bearer {WORKER_SECRET}", "Content-Type": BATCH_CONTENT_TYPE}


def create_headers(got: Claim, message: Any, index: int) -> dict[str, str]:
    """Return the headers of a create call, as the worker sends them."""
    headers = {
        got.token_header: f"Import {got.token}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Language": got.language or "*",
        "Idempotency-Key": f"{message.job_id}:{index}",
    }
    return headers | ({got.host_header: got.host} if got.host else {})


def send_single_calls(server: Server, chunk: Chunk) -> list[tuple[int, int, dict[str, str], str]]:
    answers = []
    for index, row in chunk.rows:
        answer = server.post(chunk.claim.create_path, row, create_headers(chunk.claim, chunk.message, index))
        headers = {name: answer.headers[name] for name in (VERDICT_HEADER, "Retry-After") if name in answer.headers}
        is_done = headers.get(VERDICT_HEADER) in {"created", "updated", "unchanged", "replayed"}
        answers.append((index, answer.status, headers, "" if is_done else answer.content.decode()))
    return answers


def send_batch(server: Server, chunk: Chunk) -> list[tuple[int, int, dict[str, str], str]]:
    """Send the rows in batches. A batch may end before its last row; then the other rows are in the next one."""
    answers: list[tuple[int, int, dict[str, str], str]] = []
    while left := chunk.rows[len(answers) :]:
        answer = server.post(chunk.path, replace(chunk, rows=left).body, BATCH_HEADERS)
        assert answer.status == 200, answer.content
        lines = read_lines([answer.content])
        assert lines
        for line in lines:
            line.headers.pop("Bulk-Import-Load", None)
        answers += [(line.index, line.status, line.headers, line.body) for line in lines]
    return answers


@contextmanager
def observed(events: list[Any]) -> Iterator[None]:
    """Note each signal of the shop's models and of Django's requests, and each log line with its context."""
    in_flight: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            context = {name: vars(record).get(name) for name in FIELDS if name not in {"job_id", "chunk_id"}}
            error = record.exc_info[0] if record.exc_info else None
            message = re.sub(r"/products/\d+", "/products/<id>", record.getMessage())
            events.append(("log", record.name, record.levelname, message, error, context))

    def note_model(signal: Any, sender: Any, instance: Any = None, **_kwargs: Any) -> None:
        if sender._meta.app_label == "products":
            events.append((MODEL_SIGNALS[signal], sender.__name__, str(instance)))

    def note_start(environ: dict[str, Any] | None = None, scope: Any = None, **_kwargs: Any) -> None:
        is_row = "HTTP_IDEMPOTENCY_KEY" in environ if environ else b"idempotency-key" in dict(scope["headers"])
        in_flight.append("row" if is_row else "batch")
        events.append((in_flight[-1], "starts"))

    def note_finish(**_kwargs: Any) -> None:
        events.append((in_flight.pop(), "ends"))

    def note_exception(request: HttpRequest, **_kwargs: Any) -> None:
        events.append(("exception", request.resolver_match and request.resolver_match.view_name))

    handler = Handler()
    handler.addFilter(LogContextFilter())
    logging.getLogger().addHandler(handler)
    for signal in MODEL_SIGNALS:
        signal.connect(note_model)
    signals.request_started.connect(note_start)
    signals.request_finished.connect(note_finish)
    signals.got_request_exception.connect(note_exception)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        for signal in MODEL_SIGNALS:
            signal.disconnect(note_model)
        signals.request_started.disconnect(note_start)
        signals.request_finished.disconnect(note_finish)
        signals.got_request_exception.disconnect(note_exception)
    assert not in_flight


MODEL_SIGNALS: dict[Any, str] = {pre_save: "pre_save", post_save: "post_save", post_delete: "post_delete"}


def observe(send: Any, server: Server, chunks: list[Chunk]) -> dict[str, Any]:
    """Send the rows of the chunks, and return everything that can be observed."""
    mail.outbox.clear()
    languages.clear()
    paths.clear()
    events: list[Any] = []
    with observed(events):
        answers = [send(server, chunk) for chunk in chunks]
    products = Product.objects.order_by("sku").values("sku", "name", "price", "category__slug", "description", "color")
    records = ImportedRow.objects.order_by("job_id", "index").values("index", "outcome", "lookup", "body_sha256")
    return {
        "answers": answers,
        "events": [event for event in events if event[0] != "batch"],
        "products": [*products],
        "categories": [*Category.objects.order_by("slug").values("slug", "name")],
        "movements": [*StockMovement.objects.order_by("product__sku").values("product__sku", "quantity")],
        "records": [*records],
        "emails": [(message.subject, message.body) for message in mail.outbox],
        "languages": [*languages],
        "paths": [*paths],
    }


def empty_the_shop() -> None:
    """Delete what the previous example created, and create what each example needs."""
    for model in (ImportedRow, ImportJob, StockMovement, Product, Category):
        model.objects.all().delete()
    tents = Category.objects.create(slug="tents", name="Tents")
    Category.objects.create(slug="closed", name="Closed", is_open=False)
    Product.objects.create(sku="taken", name="Old", price="1.00", currency="EUR", category=tents, stock=1)


# --- The projects

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8).map(str.strip)


@st.composite
def product_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows that validation accepts, and that the endpoint creates or refuses."""
    skus = draw(st.lists(st.sampled_from(["taken", *"ABCDEFGH"]), min_size=1, max_size=6, unique=True))
    return [
        product(
            sku,
            category=draw(st.sampled_from(["tents", "tents", "closed", "unknown"])),
            name=draw(texts.filter(bool)),
            stock=draw(st.integers(0, 2)),
            color=draw(st.sampled_from(MOODS)),
        )
        for sku in skus
    ]


category_rows = st.lists(
    st.builds(lambda slug, name: {"slug": slug, "name": name}, st.sampled_from(["tents", *"ABCD"]), texts.filter(bool)),
    min_size=1,
    max_size=4,
    unique_by=lambda row: row["slug"],
)

MOODY: dict[str, Any] = {
    "urlconf": __name__,
    "target": {"create_url": "moody", "detail_url": "moody-detail", "rehearse": True},
}
PROJECTS: dict[str, dict[str, Any]] = {
    "products": {},
    "ATOMIC_REQUESTS": {**MOODY, "atomic": True},
    "moody": MOODY,
    "moody, with 200": {"urlconf": __name__, "target": {**MOODY["target"], "success_statuses": [200, 201]}},
    "upsert": {**MOODY, "query": "?mode=upsert"},
    "update": {**MOODY, "query": "?mode=update"},
    "rehearsal": {**MOODY, "query": "?rehearse=true"},
    "second target": {"urlconf": second_target.__name__, "targets": second_target.TARGETS, "path": "/categories/bulk"},
    "below a prefix": {**MOODY, "prefix": "/shop"},
    "Portuguese": {**MOODY, "headers": {"Accept-Language": "pt-br"}},
    "ASGI": {**MOODY, "server": ASGIServer},
    "other header": {**MOODY, "settings": {"TOKEN_HEADER": "X-Import-Authorization", "REPORT_LOAD": False}},
}
"""The projects whose rows are compared: what each one changes of the settings of the tests."""


@pytest.fixture(params=PROJECTS)
def project(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Configure the site as one of the projects, and yield the project."""
    project = PROJECTS[request.param]
    if "urlconf" in project:
        settings.ROOT_URLCONF = project["urlconf"]
    *others, last = settings.MIDDLEWARE
    settings.MIDDLEWARE = [*others, f"{__name__}.{one_at_a_time.__name__}", last]
    configured = settings.BULK_IMPORT["TARGETS"]
    targets = {"products": {**configured["products"], **project.get("target", {})}, **project.get("targets", {})}
    site = {**settings.BULK_IMPORT, "TARGETS": targets, "SUBMISSION_RATE": "10000/min", **project.get("settings", {})}
    settings.BULK_IMPORT = with_batches({**site, "MAX_OPEN_JOBS": 10_000})
    if project.get("atomic"):
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    if "prefix" in project:
        settings.FORCE_SCRIPT_NAME = project["prefix"]
        set_script_prefix(f"{project['prefix']}/")  # as django.setup() does
    yield project
    clear_script_prefix()


def test_rows_have_the_same_effects_both_ways(
    project: dict[str, Any], transactional_db: None, worker: APIClient, aws: Aws
) -> None:
    client = APIClient(headers=project.get("headers"))
    client.force_login(make_user("merchandiser", "add_product", "change_product", "add_category"))
    bulk = project.get("path", "/products/bulk") + project.get("query", "")
    server = project.get("server", WSGIServer)()
    moods: Counter[Any] = Counter()

    # Shrinking a failure would take minutes, because each example runs two imports.
    @hypothesis_settings(
        max_examples=4,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(rows=category_rows if "path" in project else product_rows())
    def compare(rows: list[dict[str, Any]]) -> None:
        observations = []
        for send in (send_single_calls, send_batch):
            empty_the_shop()
            observations.append(observe(send, server, submit(client, worker, aws, rows, bulk)))
        single, batch = observations
        moods.update(answer[1] for chunk in single["answers"] for answer in chunk)
        for name, value in single.items():
            assert batch[name] == value, name

    compare()
    assert len(moods) > 1, "every row had the same status, so little was compared"


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("server_class", [WSGIServer, ASGIServer])
def test_each_row_is_a_whole_request_on_the_connection_of_the_batch(  # noqa: PLR0917 - fixtures
    client_of_merchandiser: APIClient,
    worker: APIClient,
    aws: Aws,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    server_class: type[Server],
) -> None:
    settings.BULK_IMPORT = with_batches(settings.BULK_IMPORT)
    (chunk,) = submit(client_of_merchandiser, worker, aws, [product(sku) for sku in "ABC"], "/products/bulk")
    connection, events = connections["default"], list[Any]()
    server = server_class()
    check, close = ("close_if_unusable_or_obsolete", ""), ("close", "")

    def noted(event: tuple[str, str], method: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            events.append(event)
            method()

        return call

    for event in (check, close):
        monkeypatch.setattr(connection, event[0], noted(event, getattr(connection, event[0])))

    with observed(events):
        answer = server.post(chunk.path, chunk.body, BATCH_HEADERS)
    assert [line.status for line in read_lines([answer.content])] == [201] * 3

    seen = [event for event in events if event[0] in {"row", "batch", check[0], close[0]}]
    rows = [check, ("row", "starts"), check, ("row", "ends")] * 3
    # The connection that the test itself has used is already too old when the batch starts.
    assert seen == [check, close, ("batch", "starts"), *rows, check, close, ("batch", "ends")]


ONLY_WSGI = {
    "WSGI": ["wsgi.input", "wsgi.file_wrapper", ENVIRON_KEY],
    "ASGI": ["wsgi.input", "wsgi.errors", "wsgi.url_scheme", ENVIRON_KEY],
}
"""What a row of a batch needs as a WSGI request, by the kind of server."""


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("host_header", "token_header", "server"),
    [
        ("Host", "Authorization", "WSGI"),
        ("X-Forwarded-Host", "Authorization", "WSGI"),
        ("", "X-Import-Authorization", "WSGI"),
        ("Host", "Authorization", "ASGI"),
    ],
)
def test_the_site_sees_the_same_requests(  # noqa: PLR0917 - fixtures
    merchandiser: Any,
    worker: APIClient,
    aws: Aws,
    settings: Settings,
    live_server: LiveServer,
    host_header: str,
    token_header: str,
    server: str,
) -> None:
    """Only the token differs, because it contains the time, and what WSGI needs."""
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = __name__, ["*"]
    settings.USE_X_FORWARDED_HOST = host_header.startswith("X")
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], **MOODY["target"]}
    site = {
        **settings.BULK_IMPORT,
        "TARGETS": {"products": target},
        "HOST_HEADER": host_header,
        "TOKEN_HEADER": token_header,
    }
    settings.BULK_IMPORT = with_batches(site)
    client = APIClient(headers={"Host": "north.example", "Accept-Language": "pt-br"})
    client.force_login(merchandiser)
    by_worker = {"Accept-Encoding": "identity", "User-Agent": "django-bulk-import", "X-Request-ID": "7"}
    by_proxy = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    (chunk,) = submit(client, worker, aws, [product("A"), product("B", color="raise")], "/products/bulk")

    def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
        headers = by_worker | by_proxy | headers
        if server == "ASGI":
            return ASGIServer().post(path, body, headers).content
        return httpx.post(live_server.url + path, content=body, headers=headers, trust_env=False).content

    requests.clear()
    for index, row in chunk.rows:
        post(chunk.claim.create_path, row, create_headers(chunk.claim, chunk.message, index))
    for model in (ImportedRow, Product):
        model.objects.all().delete()
    answer = post(chunk.path, chunk.body, {**BATCH_HEADERS, "Bulk-Import-Contract": "1"})

    assert [line.status for line in read_lines([answer])] == [201, 500]
    singles, batch = requests[:2], requests[2:]
    assert WORKER_SECRET not in str(batch)
    for request in requests:
        for name in ONLY_WSGI[server]:
            request["META"].pop(name, None)
        assert request["META"].pop(f"HTTP_{token_header}".upper().replace("-", "_")).startswith("Import ")
        assert request["secure"]
    assert batch == singles
