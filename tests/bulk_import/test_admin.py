"""The admin pages of imports: what staff see, what they can change, and which actions they can perform."""

from __future__ import annotations

import json
import re
import uuid
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.db.models.signals import pre_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bulk_import.admin import charts
from bulk_import.admin.actions import ACTIONS
from bulk_import.admin.bulk_actions import BULK_ACTIONS
from bulk_import.admin.timeline import duration
from bulk_import.models import ChunkStatus, EventKind, ImportChunk, ImportedRow, ImportJob, JobStatus
from bulk_import_wire.problems import problem
from tests.bulk_import.conftest import Aws, make_user, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

LIST = reverse("admin:bulk_import_importjob_changelist")
NOW = reverse("admin:bulk_import_importsnow_changelist")


@pytest.fixture
def staff() -> Client:
    """A member of staff who can view import jobs and download their rows, and has no other permission."""
    client = Client()
    client.force_login(make_user("supervisor", "view_importjob", "download_rows", is_staff=True))
    return client


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    return client


def make_job(chunks: int = 2, **fields: Any) -> ImportJob:
    """Create a job with 10 rows per chunk. All chunks but the last are done, each with two rejected rows."""
    job: ImportJob = ImportJob.objects.create(
        **{"target": "products", "rows": 10 * chunks, "status": JobStatus.PROCESSING, **fields}
    )
    for number in range(chunks):
        done = {"status": ChunkStatus.DONE, "created": 8, "rejected": 2} if number < chunks - 1 else {}
        ImportChunk.objects.create(
            job=job,
            number=number,
            first_index=10 * number,
            row_count=10,
            first_byte=0,
            byte_count=1,
            **done,
        )
    return job


def page(job: ImportJob, kind: str = "change") -> str:
    return reverse(f"admin:bulk_import_importjob_{kind}", args=[job.pk])


def text(response: Any) -> str:
    assert response.status_code == 200
    content: str = response.content.decode()
    return content


def number_of_queries(call: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as queries:
        call()
    return len(queries)


def test_the_list_shows_status_and_counts(staff: Client, merchandiser: Any) -> None:
    job = make_job(chunks=31, submitter=merchandiser)

    shown = text(staff.get(LIST))

    for expected in (str(job.pk), "products", "merchandiser", "processing", "310", "240", "60", "10"):
        assert expected in shown


def test_a_job_shows_its_chunks_and_problems(staff: Client) -> None:
    job = make_job(chunks=3, problems=[{**problem("category", "does_not_exist", "No such object.", 17), "count": 412}])

    shown = text(staff.get(page(job)))

    assert "category: No such object." in shown
    assert "412" in shown
    assert shown.count("bi-chunk") == 3


def test_a_job_without_problems_and_submitter_can_be_viewed(staff: Client) -> None:
    text(staff.get(page(make_job(chunks=0, submitter=None))))
    text(staff.get(LIST))


@pytest.mark.parametrize("status", JobStatus)
def test_a_job_of_any_status_can_be_viewed(status: JobStatus, staff: Client) -> None:
    job = make_job(status=status)

    text(staff.get(page(job)))
    assert str(job.pk) in text(staff.get(LIST, {"status__exact": status.value}))


def test_users_who_are_not_staff_are_redirected_to_the_login_page(merchandiser: Any) -> None:
    job = make_job()
    client = Client()
    for _login in ("anonymous", "merchandiser"):
        for url in (LIST, page(job)):
            answer = client.get(url)
            assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={url}")
        client.force_login(merchandiser)


def test_staff_without_the_view_permission_get_403() -> None:
    client = Client()
    client.force_login(make_user("clerk", "view_product", is_staff=True))

    assert client.get(LIST).status_code == 403
    assert client.get(page(make_job())).status_code == 403


FORM_OF_NO_INLINES = {
    f"{inline}-{count}_FORMS": "0" for inline in ("events", "chunks") for count in ("TOTAL", "INITIAL")
}


@pytest.mark.parametrize("who", ["staff", "root"])
def test_nothing_else_can_be_added_changed_or_deleted(who: str, request: pytest.FixtureRequest) -> None:
    """Superusers cannot do it either."""
    client = request.getfixturevalue(who)
    job = make_job()
    added = reverse("admin:bulk_import_importjob_add")

    assert client.get(added).status_code == 403
    assert client.post(added, {"target": "products"}).status_code == 403
    forged = {"target": "boats", "status": "succeeded", "rows": "1", "pause_code": "forbidden", **FORM_OF_NO_INLINES}
    assert client.post(page(job), forged).status_code == (302 if who == "root" else 403)
    assert client.post(page(job, "delete"), {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": [str(job.pk)], "post": "yes"})

    before = {name: value for name, value in vars(job).items() if not name.startswith("_")}
    job.refresh_from_db()
    assert {name: getattr(job, name) for name in before} == before
    assert job.chunks.count() == 2


def test_staff_with_the_change_permission_can_change_the_concurrency() -> None:
    """Saving the form changes the concurrency, and an empty value removes it."""
    client = Client()
    client.force_login(make_user("operator", "view_importjob", "change_importjob", is_staff=True))
    job = make_job()
    assert 'name="concurrency"' in text(client.get(page(job)))

    answer = client.post(page(job), {"concurrency": "2", **FORM_OF_NO_INLINES})

    job.refresh_from_db()
    assert (answer.status_code, job.concurrency) == (302, 2)
    client.post(page(job), {"concurrency": "", **FORM_OF_NO_INLINES})
    job.refresh_from_db()
    assert job.concurrency is None


def test_saving_the_form_keeps_changes_that_were_made_meanwhile(root: Client) -> None:
    job = make_job()

    def end_meanwhile(sender: Any, instance: ImportJob, **_signal: Any) -> None:
        ImportJob.objects.filter(pk=instance.pk).update(status=JobStatus.FAILED)

    pre_save.connect(end_meanwhile, sender=ImportJob)
    try:
        root.post(page(job), {"concurrency": "2", **FORM_OF_NO_INLINES})
    finally:
        pre_save.disconnect(end_meanwhile, sender=ImportJob)

    job.refresh_from_db()
    assert (job.status, job.concurrency) == (JobStatus.FAILED, 2)


@pytest.mark.parametrize("nonsense", ["0", "-1", "many", "1.5"])
def test_an_invalid_concurrency_is_rejected(nonsense: str, root: Client) -> None:
    job = make_job()

    assert "errorlist" in text(root.post(page(job), {"concurrency": nonsense, **FORM_OF_NO_INLINES}))
    job.refresh_from_db()
    assert job.concurrency is None


def test_a_job_shows_its_events(staff: Client) -> None:
    job = make_job()
    job.record(EventKind.PAUSED, note="endpoint_busy")
    job.record(EventKind.ENDED, note="partially_succeeded")
    job.record(EventKind.REDRIVEN, actor=make_user("ann"))
    undo = ImportJob.objects.create(target="products", mode="undo", rows=1, request_sha256=b"", undoes=job)
    undo.record_origin()

    shown = text(staff.get(page(job)))

    for expected in (
        "paused",
        "the create endpoint is too busy",
        "redriven",
        "ann",
        "ended · partially succeeded",
        f"undone by · {undo.pk}",
    ):
        assert expected in shown


def test_problems_come_first_and_every_chunk_is_on_a_page(staff: Client) -> None:
    job = make_job(chunks=60)
    job.chunks.filter(number=58).update(status=ChunkStatus.DEAD, unprocessed=10, created=0, rejected=0)
    now = timezone.now()
    job.chunks.filter(number=57).update(status=ChunkStatus.PROCESSING, lease_expires_at=now - timedelta(seconds=1))
    job.chunks.filter(number=56).update(status=ChunkStatus.QUEUED, failed_deliveries=2)

    pages = [text(staff.get(page(job), {"chunks": number})) for number in (1, 2)]

    shown = [re.findall(r'class="bi-chunk"><td>(\d+)</td>', one) for one in pages]
    assert shown[0][:3] == ["58", "57", "56"]
    assert "worker lost, resumes at" in pages[0]
    assert "Rows are being created." not in pages[0]
    assert sorted(map(int, shown[0] + shown[1])) == list(range(60))
    assert "1 to 50 of 60 chunks" in text(staff.get(page(job), {"chunks": "nonsense"}))


def test_a_job_that_is_being_cancelled_does_not_say_that_rows_are_being_created(staff: Client) -> None:
    job = make_job(cancel_requested_at=timezone.now())
    job.chunks.filter(number=1).update(status=ChunkStatus.PROCESSING)

    shown = text(staff.get(page(job)))

    assert shown.count("being cancelled") >= 3  # the badge, the message and the chunk
    assert "Rows are being created" not in shown
    assert ">processing<" not in shown


def test_the_timeline_has_seconds_durations_and_users(staff: Client) -> None:
    job = make_job(submitter=make_user("ann"))
    job.record(EventKind.PAUSED, note="staff", actor=make_user("ben"))
    start = timezone.now().replace(hour=9, minute=28, second=3, microsecond=0)
    ImportJob.objects.update(created_at=start)
    job.events.update(at=start + timedelta(seconds=125))

    shown = " ".join(unescape(re.sub(r"<[^>]*>", "", text(staff.get(page(job))))).split())

    clock = [timezone.localtime(start + timedelta(seconds=n)).strftime("%H:%M:%S") for n in (0, 125)]
    assert f"{clock[0]} accepted · ann" in shown
    assert f"{clock[1]} paused · a member of staff paused it · ben 2 min 5 s later" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (59.6, "1 min 0 s"), (3725, "1 h 2 min"), (90061, "1 d 1 h")]
)
def test_a_duration_has_two_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize("index", ["20", "-1", "9" * 5000, "²", "one"])
def test_a_row_that_does_not_exist_is_no_error(staff: Client, index: str) -> None:
    assert "There is no row with this index." in text(staff.get(page(make_job()), {"row": index}))


def test_read_only_staff_find_no_link_that_leads_to_403(staff: Client, merchandiser: Any) -> None:
    corrected = make_job()
    job = make_job(submitter=merchandiser, corrects=corrected)
    ImportedRow.objects.create(job=job, index=3, body_sha256=b"", object_id="500")
    pages = [text(staff.get(url)) for url in (f"{page(job)}?row=3", LIST, NOW, page(job, "history"))]
    shown = "".join(pages)

    links = {unescape(link) for link in re.findall(r'href="(/admin/[^"#]*)"', shown)}

    assert page(corrected) in links
    assert reverse("admin:products_product_change", args=[500]) not in links
    refused = {link for link in links if "/logout" not in link and staff.get(link).status_code == 403}
    assert refused == set()


@pytest.mark.parametrize("model", ["importchunk", "importedrow"])
def test_chunks_and_created_rows_have_no_pages_of_their_own(model: str, root: Client) -> None:
    assert root.get(f"/admin/bulk_import/{model}/").status_code == 404


def test_no_page_offers_a_change_to_staff_who_can_only_view(staff: Client) -> None:
    job = make_job()

    shown = text(staff.get(page(job))) + text(staff.get(LIST))

    for offer in ('name="_save"', 'name="concurrency"', "deletelink", "importjob/add", "delete_selected"):
        assert offer not in shown


def test_staff_change_the_priority_in_place(root: Client) -> None:
    """Each change is an event of the job. A form without a priority keeps it."""
    job = make_job()
    for priority in ("front", "front", None, "turn"):
        form = {"concurrency": "", **FORM_OF_NO_INLINES, **({"priority": priority} if priority else {})}
        assert root.post(page(job), form).status_code == 302
        job.refresh_from_db()
        assert (job.front_at is None) == (priority == "turn")

    assert [event.kind for event in job.events.order_by("at")] == ["moved_to_front", "moved_back"]
    assert {str(event.actor) for event in job.events.all()} == {"root"}
    assert (
        root.post(page(make_job(status=JobStatus.FAILED)), {"priority": "front", **FORM_OF_NO_INLINES}).status_code
        == 302
    )
    assert not ImportJob.objects.exclude(front_at=None).exists()


def test_only_the_concurrency_and_the_priority_can_be_edited(root: Client) -> None:
    job = make_job()

    shown = text(root.get(page(job))) + text(root.get(LIST))

    for offer in ("deletelink", "importjob/add", "delete_selected", "_saveasnew", "_addanother"):
        assert offer not in shown
    fields = set(re.findall(r'<(?:input|select|textarea)[^>]* name="(\w+)"', shown))
    assert {name for name in fields if hasattr(ImportJob, name)} == {"concurrency"}
    assert not {name for name in fields if re.match(r"(events|chunks)-\d", name)}


def test_the_list_says_what_an_import_does_if_it_does_not_create(staff: Client) -> None:
    make_job(mode="undo", file_name="spring.csv")
    created = make_job()

    shown = text(staff.get(LIST))

    assert "<small>undo</small>" in shown
    assert f"products {str(created.pk)[:8]}</span></a>" in shown


def test_the_advice_about_dead_chunks_is_to_run_them_again(staff: Client) -> None:
    job = dead_job()
    job.record(EventKind.DEAD_LETTERED, note="0")

    shown = text(staff.get(page(job)))

    assert "then choose “Run dead chunks again”" in shown
    assert "chunk 0 is dead" in shown


def test_the_list_makes_no_more_queries_for_more_jobs(staff: Client, merchandiser: Any) -> None:
    for _ in range(3):
        make_job(submitter=merchandiser)
    few = number_of_queries(lambda: text(staff.get(LIST)))
    for _ in range(27):
        make_job(submitter=merchandiser)

    assert number_of_queries(lambda: text(staff.get(LIST))) == few


def test_a_job_makes_no_more_queries_for_more_chunks(staff: Client) -> None:
    small, large = make_job(chunks=3), make_job(chunks=30)
    staff.get(page(small))  # Django remembers the content types of the first page

    assert number_of_queries(lambda: text(staff.get(page(large)))) == number_of_queries(
        lambda: text(staff.get(page(small)))
    )


def test_a_hostile_problem_is_escaped(staff: Client) -> None:
    hostile = "<script>alert('%s')</script>{}"
    job = make_job(problems=[problem(hostile, hostile, hostile, 0)], target=hostile)

    shown = text(staff.get(page(job))) + text(staff.get(LIST))

    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(" in shown


@pytest.mark.parametrize("start", [slice(0, 36), slice(0, 8), slice(9, 23), slice(24, None)])
def test_a_job_is_found_by_a_part_of_its_id(start: slice, staff: Client) -> None:
    wanted = make_job(id=uuid.UUID("0199a7c2-4b5d-4e6f-8a9b-0c1d2e3f4a5b"))
    other = make_job(id=uuid.UUID("11111111-1111-4111-8111-111111111111"))

    found = text(staff.get(LIST, {"q": str(wanted.pk)[start]}))

    assert str(wanted.pk) in found
    assert str(other.pk) not in found


@pytest.mark.parametrize("query", ["nothing", "%", "'; --", "\0", "0199-", "é" * 500, "--", '"', "a b c"])
def test_a_search_for_an_odd_text_succeeds(query: str, staff: Client) -> None:
    make_job()

    text(staff.get(LIST, {"q": query}))


@pytest.mark.parametrize(
    "parameters",
    [{"status__exact": "nothing"}, {"created_at__gte": "yesterday"}, {"o": "99"}, {"p": "99"}, {"nothing": "1"}],
)
def test_invalid_parameters_in_the_url_are_ignored(parameters: dict[str, str], staff: Client) -> None:
    make_job()

    text(staff.get(LIST, parameters, follow=True))


def test_the_page_says_how_the_columns_were_read(staff: Client) -> None:
    columns = [{"column": "<b>Preço", "field": "price", "match": "label"}]
    found = text(staff.get(page(make_job(reading={"format": "csv", "columns": columns, "ignored": ["Fornecedor"]}))))

    assert "column <bdi>&lt;b&gt;Preço</bdi></dt><dd>price</dd>" in found
    assert "<bdi>Fornecedor</bdi>" in found


@pytest.mark.parametrize("job_id", ["nothing", str(uuid.UUID(int=4)), "1"])
def test_the_page_of_an_unknown_job_says_that_it_does_not_exist(job_id: str, staff: Client) -> None:
    answer = staff.get(reverse("admin:bulk_import_importjob_change", args=[job_id]), follow=True)

    assert "exist. Perhaps it was deleted?" in text(answer)


# --- actions


@pytest.fixture
def operator() -> Client:
    """A member of staff who can view and change import jobs."""
    client = Client()
    client.force_login(make_user("operator", "view_importjob", "change_importjob", is_staff=True))
    return client


def act(job: ImportJob, name: str) -> str:
    return reverse("admin:bulk_import_importjob_act", args=[job.pk, name])


def ended_job() -> ImportJob:
    job = make_job(chunks=1, status=JobStatus.PARTIALLY_SUCCEEDED, finished_at=timezone.now())
    job.chunks.update(status=ChunkStatus.DONE, created=8, rejected=2)
    return job


def dead_job() -> ImportJob:
    job = make_job(chunks=2)
    job.chunks.filter(number=0).update(status=ChunkStatus.DEAD, created=0, rejected=0, unprocessed=10)
    return job


def paused_job() -> ImportJob:
    job = make_job()
    with transaction.atomic():
        job.pause_by_staff(None)
    return job


def submitted_job() -> ImportJob:
    return make_job(submitter=make_user("submitter"))


ACTION_CASES = [
    ("pause", make_job, JobStatus.PAUSED, "paused"),
    ("resume", paused_job, JobStatus.PENDING, "resumed"),
    ("move-to-front", make_job, JobStatus.PROCESSING, "moved_to_front"),
    ("retry", ended_job, JobStatus.PENDING, "retried"),
    ("redrive", dead_job, JobStatus.PROCESSING, "redriven"),
    ("cancel", make_job, JobStatus.PROCESSING, "cancelled"),
    ("stop-user", submitted_job, JobStatus.PROCESSING, "cancelled"),
]


def test_every_action_has_its_case() -> None:
    assert [name for name, *_rest in ACTION_CASES] == list(ACTIONS)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("case", ACTION_CASES, ids=list(ACTIONS))
def test_an_action_asks_first_has_one_effect_for_a_double_click_and_is_logged(
    operator: Client, aws: Aws, case: tuple[str, Callable[[], ImportJob], JobStatus, str]
) -> None:
    name, made, status, kind = case
    job = made()
    before = ImportJob.objects.values().get()
    assert act(job, name) in text(operator.get(page(job)))
    assert str(ACTIONS[name].consequence) in unescape(text(operator.get(act(job, name))))
    assert ImportJob.objects.values().get() == before

    answers = [operator.post(act(job, name), follow=True) for _click in range(2)]

    assert str(ACTIONS[name].done) in text(answers[0])
    assert "Nothing changed. This action was already done, or is no longer possible." in text(answers[1])
    job = ImportJob.objects.get()
    assert job.status == (JobStatus.QUEUED if status == JobStatus.PENDING and aws.messages() else status)
    (event,) = job.events.filter(kind=kind).exclude(actor=None)
    assert event.actor.get_username() == "operator"
    (entry,) = LogEntry.objects.all()
    assert (entry.user.get_username(), entry.object_id) == ("operator", str(job.pk))
    assert str(ACTIONS[name].done) in entry.get_change_message()
    assert act(job, name) not in text(operator.get(page(job)))


@pytest.mark.parametrize("name", ACTIONS)
def test_staff_who_can_only_view_cannot_act(staff: Client, name: str) -> None:
    job = make_job()

    assert "/do/" not in text(staff.get(page(job)))
    assert [staff.get(act(job, name)).status_code, staff.post(act(job, name)).status_code] == [403, 403]
    assert ImportJob.objects.get().events.count() == 0


@pytest.mark.django_db(transaction=True)
def test_staff_stop_all_open_imports_of_a_user_and_no_others(operator: Client, aws: Aws) -> None:
    user = make_user("submitter")
    jobs = [make_job(submitter=user), make_job(submitter=user, status=JobStatus.PAUSED, pause_code="staff")]
    ended = make_job(submitter=user, status=JobStatus.FAILED)
    others = [make_job(submitter=make_user("another")), make_job()]

    selected: dict[str, Any] = {"action": "stop_user", "_selected_action": [jobs[0].pk, ended.pk]}
    asked = operator.post(LIST, selected, follow=True)
    assert asked.redirect_chain == [(act(jobs[0], "stop-user"), 302)] or asked.redirect_chain == [
        (act(ended, "stop-user"), 302)
    ]
    assert not ImportJob.objects.exclude(cancel_requested_at=None).exists()
    operator.post(asked.redirect_chain[0][0])

    stopped = ImportJob.objects.exclude(cancel_requested_at=None)
    assert {job.pk for job in stopped} == {job.pk for job in jobs}
    assert {str(event.actor) for job in jobs for event in job.events.all()} == {"operator"}

    selected["_selected_action"] = [job.pk for job in others]
    assert "Select imports of one user only." in text(operator.post(LIST, selected, follow=True))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", BULK_ACTIONS)
def test_a_bulk_action_asks_first_changes_what_it_can_and_is_logged(operator: Client, aws: Aws, name: str) -> None:
    made = {"retry": ended_job, "resume": paused_job}.get(name, make_job)
    jobs, other = [made() for _ in range(3)], make_job(status=JobStatus.SUCCEEDED)
    selected = {"action": name, "index": "0", "_selected_action": [str(job.pk) for job in [*jobs, other]]}

    asked = text(operator.post(LIST, selected))
    assert not LogEntry.objects.exists()
    assert str(ACTIONS[name].consequence) in unescape(asked)
    assert "1 selected import is left out" in asked
    address = reverse("admin:bulk_import_importjob_bulk", args=[name])
    sent = {"jobs": re.findall(r'name="jobs" value="([^"]*)"', asked)}
    answers = [text(operator.post(address, sent, follow=True)) for _click in range(2)]

    assert "3 imports changed." in answers[0]
    assert "0 imports changed." in answers[1]
    assert {entry.object_id for entry in LogEntry.objects.all()} == {str(job.pk) for job in jobs} == set(sent["jobs"])
    assert LogEntry.objects.count() == 3
    assert {str(job.events.exclude(actor=None).get().actor) for job in jobs} == {"operator"}
    assert operator.get(address).status_code == 405
    assert operator.post(address, {"jobs": ["nonsense"]}).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_bulk_action_says_that_it_leaves_imports_out_and_keeps_the_filters(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulk_import.admin.bulk_actions.MAX_JOBS", 2)
    jobs = [make_job() for _ in range(3)]
    selected = {"action": "pause", "index": "0", "_selected_action": [str(job.pk) for job in jobs]}

    asked = text(operator.post(f"{LIST}?mode=create", selected))

    assert "You selected more than 2 imports." in asked
    sent = {"jobs": re.findall(r'name="jobs" value="([^"]*)"', asked)}
    assert len(sent["jobs"]) == 2
    (address,) = re.findall(r'<form method="post" action="([^"]*)" data-once', asked)
    assert operator.post(address, sent, follow=True).redirect_chain == [(f"{LIST}?mode=create", 302)]


def test_staff_who_can_only_view_have_no_bulk_actions(staff: Client) -> None:
    job = make_job()

    assert 'name="action"' not in text(staff.get(LIST))
    for name in BULK_ACTIONS:
        address = reverse("admin:bulk_import_importjob_bulk", args=[name])
        assert staff.post(address, {"jobs": [str(job.pk)]}).status_code == 403
        staff.post(LIST, {"action": name, "index": "0", "_selected_action": [str(job.pk)]})
    assert not job.events.exists()


@pytest.mark.parametrize(
    "parameters",
    [{"q": "No such category"}, {"q": "“água”"}, {"problem": "does_not_exist"}, {"submitter": "ANN"}],
)
def test_jobs_are_found_by_problem_and_submitter(staff: Client, parameters: dict[str, str]) -> None:
    ann = make_user("ann")
    found = make_job(submitter=ann, problems=[problem("category", "does_not_exist", "No such category “água”.", 1)])
    other = make_job(submitter=make_user("ben"), problems=[problem("price", "invalid", "No number.", 1)])
    parameters = {name: value.replace("ANN", str(ann.pk)) for name, value in parameters.items()}

    shown = text(staff.get(LIST, parameters))

    assert str(found.pk) in shown
    assert str(other.pk) not in shown


def test_an_action_needs_the_csrf_token_and_an_existing_job(operator: Client) -> None:
    job = make_job()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies

    assert strict.post(act(job, "cancel")).status_code == 403
    assert operator.post(act(job, "no-such-action")).status_code == 404
    assert operator.get(act(ImportJob(pk=uuid.uuid4()), "cancel")).status_code == 404
    assert not ImportJob.objects.get().cancel_requested_at


# --- figures, charts and downloads


def test_a_figure_is_red_if_staff_have_to_act(staff: Client) -> None:
    quiet = text(staff.get(LIST))
    assert "bi-alarming" not in quiet
    dead_job()
    paused_job()
    old = make_job(chunks=1)
    ImportJob.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=1))

    shown = text(staff.get(LIST))

    shown_figures = re.findall(r'class="bi-figure( bi-alarming)?">\s*<strong>([^<]*)</strong> <span>([^<]*)<', shown)
    assert shown_figures == [
        ("", "3", "open imports"),
        ("", "30", "rows left"),
        (" bi-alarming", "1", "paused"),
        (" bi-alarming", "1", "dead chunks"),
        (" bi-alarming", "1\xa0hour", "longest wait"),
    ]


def test_the_figures_make_no_more_queries_for_more_jobs(staff: Client) -> None:
    make_job()
    few = number_of_queries(lambda: staff.get(LIST))
    for _number in range(20):
        make_job()

    assert number_of_queries(lambda: staff.get(LIST)) == few


def test_jobs_with_dead_letters_can_be_found(staff: Client) -> None:
    dead, other = dead_job(), make_job()

    shown = text(staff.get(LIST, {"dead": "1"}))

    assert str(dead.pk) in shown
    assert str(other.pk) not in shown


def test_a_job_is_found_by_its_idempotency_key(staff: Client) -> None:
    job, other = make_job(idempotency_key="spring-2026"), make_job()

    shown = text(staff.get(LIST, {"q": "spring"}))

    assert str(job.pk) in shown
    assert str(other.pk) not in shown


def test_a_job_is_found_by_its_submitter(staff: Client, merchandiser: Any) -> None:
    job, other = make_job(submitter=merchandiser), make_job()

    shown = text(staff.get(LIST, {"q": merchandiser.get_username()[:5]}))

    assert str(job.pk) in shown
    assert str(other.pk) not in shown


def test_the_rate_chart_of_a_large_job_reads_a_sample(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "MAX_SAMPLED_ROWS", 5)
    job = make_job(chunks=1)
    for index in range(10):
        ImportedRow.objects.create(job=job, index=index, body_sha256=b"")
    start = timezone.now().replace(microsecond=0)
    for index in range(10):  # rows with an odd index are not in the sample; they would add a third bar
        at = start + timedelta(seconds=[index > 3, 2][index % 2])
        ImportedRow.objects.filter(job=job, index=index).update(created_at=at)

    shown = text(staff.get(page(job)))

    assert re.findall(r'height="([^"]*)"><title>', shown) == ["80.00", "120.00"]
    assert "Up to 6.0 rows per second" in shown


def test_the_rate_chart_shows_when_rows_were_created(root: Client) -> None:
    job = make_job(chunks=1)
    for index in range(10):
        ImportedRow.objects.create(job=job, index=index, body_sha256=b"", object_id=str(index + 500))
    start = timezone.now().replace(microsecond=0)
    for index in range(10):
        at = start + timedelta(seconds=20 * (index > 3))
        ImportedRow.objects.filter(job=job, index=index).update(created_at=at)

    shown = text(root.get(page(job)))

    heights = re.findall(r'<rect x="[^"]*" y="[^"]*" width="[^"]*" height="([^"]*)"><title>', shown)
    assert [heights[0], set(heights[1:-1]), heights[-1]] == ["80.00", {"0.00"}, "120.00"]
    assert "Up to 6.0 rows per second" in shown
    assert reverse("admin:products_product_change", args=[500]) in shown


@pytest.mark.django_db(transaction=True)
def test_payload_and_failures_can_be_downloaded_and_a_hostile_row_is_escaped(
    staff: Client, client_of_merchandiser: APIClient, run_worker: Callable[[], None]
) -> None:
    hostile = "<script>alert(1)</script>\u202e" + "x" * 9000
    rows = [product("good"), product("bad", name=hostile), product("none", category="kayaks")]
    post_rows(client_of_merchandiser, rows, "/products/bulk?on_invalid=skip")
    run_worker()
    job = ImportJob.objects.get()

    shown = text(staff.get(page(job)))
    payload = staff.get(reverse("admin:bulk_import_importjob_payload", args=[job.pk]))
    failures = staff.get(reverse("admin:bulk_import_importjob_failures", args=[job.pk]))

    assert "<script>alert(1)" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert len(shown) < 60_000
    assert [json.loads(line) for line in b"".join(payload.streaming_content).splitlines()] == rows  # type: ignore[attr-defined] # it is streamed
    assert [json.loads(line)["row"] for line in b"".join(failures.streaming_content).splitlines()] == rows[1:]  # type: ignore[attr-defined] # as above
    assert "attachment" in payload["Content-Disposition"]
    one_row = text(staff.get(page(job), {"row": "1"}))
    assert "rejected" in one_row.split("bi-heading-row")[2].split("</dl>")[0]
    assert "Object with" in one_row or "characters" in one_row
    failures = staff.get(page(job, "failures"), {"as": "csv"})
    results = [b"".join(staff.get(page(job, "results"), {"as": name}).streaming_content) for name in ("csv", "jsonl")]  # type: ignore[attr-defined] # as above
    assert b"".join(failures.streaming_content).count(b"\n") == 3  # type: ignore[attr-defined] # as above
    assert results[0].count(b"\n") == 4
    assert [json.loads(line)["outcome"] for line in results[1].splitlines()] == ["created", "rejected", "rejected"]
    assert staff.get(page(job, "payload"), {"as": "csv"}).status_code == 404
    logged = LogEntry.objects.filter(object_id=str(job.pk)).order_by("pk")
    assert [(entry.user.get_username(), entry.change_message) for entry in logged] == [
        ("supervisor", "Downloaded the rows as they were sent."),
        ("supervisor", "Downloaded the rows that were not created."),
        ("supervisor", "Downloaded the rows that were not created."),
        ("supervisor", "Downloaded the results."),
        ("supervisor", "Downloaded the results."),
    ]


@pytest.mark.parametrize("permissions", [[], ["view_importjob"], ["download_rows"]])
@pytest.mark.parametrize("kind", ["payload", "failures", "results"])
def test_downloads_need_the_view_permission_and_their_own(kind: str, permissions: list[str], aws: Aws) -> None:
    client = Client()
    client.force_login(make_user("clerk", *permissions, is_staff=True))
    job = make_job()
    address = page(job, kind)

    assert client.get(address).status_code == 403
    assert Client().get(address).status_code == 302
    assert not LogEntry.objects.exists()
    if "view_importjob" in permissions:
        assert address not in text(client.get(page(job)))


def test_a_job_of_a_removed_target_offers_only_downloads_that_exist(staff: Client) -> None:
    shown = text(staff.get(page(make_job(target="removed"))))

    links = re.findall(r'href="[^"]*/(payload|failures|results)/\?as=(\w+)"', shown)
    assert links == [("payload", "jsonl"), ("failures", "jsonl")]


def test_the_page_reports_a_storage_that_cannot_be_read(staff: Client, aws: Aws) -> None:
    job = make_job(payload_bucket="bulk-import-payloads", payload_key="gone")
    job.chunks.filter(number=0).update(failures_key=f"{job.pk}/gone.jsonl")

    assert "We cannot read the failures right now." in text(staff.get(page(job)))
    for kind in ("payload", "failures"):
        answer = staff.get(reverse(f"admin:bulk_import_importjob_{kind}", args=[job.pk]), follow=True)
        assert "cannot read the failures right now" in text(answer)
