"""The admin pages and the emails of an expired job offer nothing that has been deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bulk_import.models import EventKind, ImportJob
from bulk_import.outbox.mail import compose
from tests.bulk_import.conftest import Aws, make_user
from tests.bulk_import.retention.retained import (
    expire,
    set_end_days_ago,
)

if TYPE_CHECKING:
    from pytest_django import Settings


pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff(client: Any) -> Any:
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    return client


def admin_page(job: ImportJob, *rest: str) -> str:
    return "/".join(["/admin/bulk_import/importjob", str(job.pk), *(rest or ["change"]), ""])


def test_staff_see_when_a_job_expires_and_no_links_to_deleted_data(staff: Any, job: ImportJob, aws: Aws) -> None:
    before = staff.get(admin_page(job)).content.decode()
    set_end_days_ago(31)
    expire()
    after = staff.get(admin_page(job)).content.decode()

    assert "<dt>expires</dt>" in before
    assert "<dt>expired</dt>" in after
    assert "so it cannot run again" in after
    for link in ("payload", "failures", "do/retry", "do/redrive"):
        assert admin_page(job, link) in before
        assert admin_page(job, link) not in after


@pytest.mark.parametrize(
    ("path", "post", "message"),
    [
        ("payload", False, "The rows of this import are no longer kept."),
        ("failures", False, "The failures of this import are no longer kept."),
        ("do/retry", True, "Send them as a new import."),
        ("do/redrive", True, "Send them as a new import."),
    ],
)
def test_an_outdated_admin_page_gets_the_message_that_the_job_has_expired(
    staff: Any, job: ImportJob, aws: Aws, *, path: str, post: bool, message: str
) -> None:
    set_end_days_ago(31)
    expire()
    answer = (staff.post if post else staff.get)(admin_page(job, path), follow=True)

    assert answer.redirect_chain == [(admin_page(job), 302)]
    assert message in answer.content.decode()


def test_an_email_that_is_sent_after_the_expiry_offers_nothing_that_was_deleted(
    job: ImportJob, aws: Aws, settings: Settings
) -> None:
    """For example, the mail server was unavailable for longer than the retention period."""
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PUBLIC_URL": "https://shop.example", "JOB_PAGE_URL": ""}
    before = compose(ImportJob.objects.with_counts().get(), EventKind.ENDED, None, to_submitter=True).text
    set_end_days_ago(31)
    expire()
    after = compose(ImportJob.objects.with_counts().get(), EventKind.ENDED, None, to_submitter=True).text

    for offer in ("/failures", "/retry", "download the rows that were not created"):
        assert offer in before
        assert offer not in after
    assert "2 of 4 products were created" in after
