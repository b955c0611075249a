"""Staff look at imports in the admin, and can change the concurrency of one, if they may change jobs."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.db.models.signals import pre_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from bulk_import.models import ChunkStatus, EventKind, ImportChunk, ImportJob, JobStatus
from lambda_worker.problems import problem
from tests.bulk_import.conftest import make_user

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db

LIST = reverse("admin:bulk_import_importjob_changelist")


@pytest.fixture
def staff() -> Client:
    """May view import jobs, and nothing else."""
    client = Client()
    client.force_login(make_user("supervisor", "view_importjob", is_staff=True))
    return client


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    return client


def make_job(chunks: int = 2, **fields: Any) -> ImportJob:
    """Ten rows a chunk; all chunks but the last are done, with two rows refused in each."""
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
    assert shown.count("field-lease_expires_at") == 3


def test_a_job_without_problems_and_submitter_can_be_looked_at(staff: Client) -> None:
    text(staff.get(page(make_job(chunks=0, submitter=None))))
    text(staff.get(LIST))


@pytest.mark.parametrize("status", JobStatus)
def test_a_job_of_any_status_can_be_looked_at(status: JobStatus, staff: Client) -> None:
    job = make_job(status=status)

    text(staff.get(page(job)))
    assert str(job.pk) in text(staff.get(LIST, {"status__exact": status.value}))


def test_who_is_not_staff_is_sent_to_the_login(merchandiser: Any) -> None:
    job = make_job()
    client = Client()
    for _login in ("nobody", "somebody"):
        for url in (LIST, page(job)):
            answer = client.get(url)
            assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={url}")
        client.force_login(merchandiser)


def test_staff_without_the_permission_may_not_look() -> None:
    client = Client()
    client.force_login(make_user("clerk", "view_product", is_staff=True))

    assert client.get(LIST).status_code == 403
    assert client.get(page(make_job())).status_code == 403


FORM_OF_NO_INLINES = {
    f"{inline}-{count}_FORMS": "0" for inline in ("events", "chunks") for count in ("TOTAL", "INITIAL")
}


@pytest.mark.parametrize("who", ["staff", "root"])
def test_nothing_else_can_be_added_changed_or_deleted(who: str, request: pytest.FixtureRequest) -> None:
    """Not even by a superuser."""
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


def test_the_concurrency_is_changed_by_whoever_may_change_jobs() -> None:
    """And nothing else is written: the job lives on while they look at the form."""
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


def test_what_happened_to_the_job_while_staff_looked_at_the_form_stays(root: Client) -> None:
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
def test_a_concurrency_that_cannot_be_is_refused(nonsense: str, root: Client) -> None:
    job = make_job()

    assert "errorlist" in text(root.post(page(job), {"concurrency": nonsense, **FORM_OF_NO_INLINES}))
    job.refresh_from_db()
    assert job.concurrency is None


def test_a_job_shows_what_happened_to_it(staff: Client) -> None:
    job = make_job()
    job.record(EventKind.PAUSED, note="endpoint_busy")
    job.record(EventKind.REDRIVEN, actor=make_user("ann"))

    shown = text(staff.get(page(job)))

    for expected in ("paused", "endpoint_busy", "redriven", "ann"):
        assert expected in shown


@pytest.mark.parametrize("model", ["importchunk", "importedrow"])
def test_chunks_and_ledger_have_no_pages_of_their_own(model: str, root: Client) -> None:
    assert root.get(f"/admin/bulk_import/{model}/").status_code == 404


def test_no_page_offers_a_change_to_who_may_only_look(staff: Client) -> None:
    job = make_job()

    shown = text(staff.get(page(job))) + text(staff.get(LIST))

    for offer in ('name="_save"', 'name="concurrency"', "deletelink", "importjob/add", "delete_selected"):
        assert offer not in shown


def test_no_page_offers_more_than_the_concurrency(root: Client) -> None:
    job = make_job()

    shown = text(root.get(page(job))) + text(root.get(LIST))

    for offer in ("deletelink", "importjob/add", "delete_selected", "_saveasnew", "_addanother"):
        assert offer not in shown
    fields = set(re.findall(r'<(?:input|select|textarea)[^>]* name="(\w+)"', shown))
    assert {name for name in fields if hasattr(ImportJob, name)} == {"concurrency"}
    assert not {name for name in fields if re.match(r"(events|chunks)-\d", name)}


def test_the_list_makes_no_more_queries_for_more_jobs(staff: Client, merchandiser: Any) -> None:
    for _ in range(3):
        make_job(submitter=merchandiser)
    few = number_of_queries(lambda: text(staff.get(LIST)))
    for _ in range(27):
        make_job(submitter=merchandiser)

    assert number_of_queries(lambda: text(staff.get(LIST))) == few


def test_a_job_makes_no_more_queries_for_more_chunks(staff: Client) -> None:
    small, large = make_job(chunks=3), make_job(chunks=30)

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
def test_a_search_for_nonsense_is_no_error(query: str, staff: Client) -> None:
    make_job()

    text(staff.get(LIST, {"q": query}))


@pytest.mark.parametrize(
    "parameters",
    [{"status__exact": "nothing"}, {"created_at__gte": "yesterday"}, {"o": "99"}, {"p": "99"}, {"nothing": "1"}],
)
def test_nonsense_in_the_address_is_no_error(parameters: dict[str, str], staff: Client) -> None:
    make_job()

    text(staff.get(LIST, parameters, follow=True))


@pytest.mark.parametrize("job_id", ["nothing", str(uuid.UUID(int=4)), "1"])
def test_an_unknown_job_is_said_to_be_missing(job_id: str, staff: Client) -> None:
    answer = staff.get(reverse("admin:bulk_import_importjob_change", args=[job_id]), follow=True)

    assert "exist. Perhaps it was deleted?" in text(answer)
