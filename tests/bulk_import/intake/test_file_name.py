"""The name of an uploaded file: where it comes from, what is left of a hostile one, and where people see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from bulk_import.intake.file_name import clean_file_name, file_name_of
from bulk_import.models import ImportJob
from bulk_import.outbox.mail import compose
from tests.bulk_import.conftest import Aws, make_user, post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient

LIST = reverse("admin:bulk_import_importjob_changelist")
CSV = b"sku,name,price,currency,category\nS-1,Ridge Tent,249.90,EUR,tents\n"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("autumn.csv", "autumn.csv"),
        ("../../etc/passwd", "passwd"),
        (r"C:\Users\ana\outono açaí.xlsx", "outono açaí.xlsx"),
        ("a\0b\r\nc\u202edcba.csv", "abcdcba.csv"),
        ("\ud800lone.csv", "lone.csv"),
        ("x" * 300, "x" * 255),
        ("", ""),
    ],
)
def test_a_name_has_no_folders_and_no_control_characters(name: str, kept: str) -> None:
    assert clean_file_name(name) == kept


@pytest.mark.parametrize(
    "header",
    ['attachment; filename="açaí.csv"', f"attachment; filename*=UTF-8''{quote('açaí.csv')}", "filename=açaí.csv; x=1"],
)
def test_a_header_names_the_file_if_it_has_a_disposition(header: str) -> None:
    assert file_name_of(header) == ("açaí.csv" if header.startswith("attachment") else "")


@pytest.mark.parametrize(
    "header", ["", ";", "attachment", "attachment; filename*=x'", "attachment; filename*=no-such''a"]
)
def test_a_header_without_a_readable_name_is_no_error(header: str) -> None:
    file_name_of(header)


@pytest.mark.django_db
def test_the_name_is_in_the_api_the_admin_and_the_email(client_of_merchandiser: APIClient, aws: Aws) -> None:
    """A form and a plain body give it, and the search of the list finds it."""
    assert aws.messages() == []
    file = SimpleUploadedFile("autumn.csv", CSV, content_type="text/csv")
    sent: list[Any] = [client_of_merchandiser.post("/products/bulk", {"file": file}, format="multipart")]
    header = "attachment; filename*=UTF-8''winter%20%28%27new%27%29.json"
    sent.append(post_rows(client_of_merchandiser, [product("S-2")], headers={"Content-Disposition": header}))
    sent.append(post_rows(client_of_merchandiser, [product("S-3")]))

    assert [answer.json()["file_name"] for answer in sent] == ["autumn.csv", "winter ('new').json", ""]
    staff = Client()
    staff.force_login(make_user("supervisor", "view_importjob", is_staff=True))
    found = staff.get(LIST, {"q": "autumn"}).content.decode()
    assert "autumn.csv" in found
    assert "winter" not in found
    job = ImportJob.objects.for_reports().get(file_name="autumn.csv")
    assert "autumn.csv" in staff.get(reverse("admin:bulk_import_importjob_change", args=[job.pk])).content.decode()
    assert "autumn.csv" in compose(job, "paused", None, to_submitter=True).text
