"""What a mail says: at a glance in the subject, then why, and what to do; in both languages, and inert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail as outgoing
from django.core.mail import EmailMultiAlternatives
from django.utils.translation import override

from bulk_import.models import EventKind, ImportJob, JobStatus
from bulk_import.outbox.mail import MAX_PROBLEMS, Attachment, Content, compose
from bulk_import_wire.contract import PauseCode
from bulk_import_wire.problems import MAX_PROBLEMS as MAX_LISTED
from bulk_import_wire.problems import merge_problems, problem

if TYPE_CHECKING:
    from pytest_django import Settings

ID = "6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55"
ATTACHMENT = Attachment("products-failures-6bb4a9f6.csv", b"", 326)
SCRIPT = "<script>alert('1')</script>"


def make_job(status: str, rows: int, *counts: int, **fields: Any) -> ImportJob:
    """A job as `with_counts` gives it: created, rejected, failed, unprocessed."""
    job = ImportJob(id=ID, target="products", status=status, rows=rows, **fields)
    job.created_count, job.rejected_count, job.failed_count, job.unprocessed_count = counts
    return job


def written(
    job: ImportJob,
    kind: str = EventKind.ENDED,
    attachment: Attachment | None = None,
    *,
    language: str = "en",
    is_submitters: bool = True,
) -> Content:
    with override(language):
        return compose(job, kind, attachment, is_submitters=is_submitters)


AWAY = {"pause_code": PauseCode.ENDPOINT_AWAY}


@pytest.mark.parametrize(
    ("job", "kind", "english", "portuguese"),
    [
        (
            make_job("succeeded", 1994, 1994, 0, 0, 0),
            "ended",
            "All 1,994 products were created",
            "Tudo foi criado: 1.994 produtos",
        ),
        (make_job("succeeded", 1, 1, 0, 0, 0), "ended", "1 product was created", "Tudo foi criado: 1 produto"),
        (
            make_job("partially_succeeded", 1994, 1668, 326, 0, 0),
            "ended",
            "1,668 of 1,994 products were created",
            "Foram criados 1.668 de 1.994 produtos",
        ),
        (
            make_job("partially_succeeded", 4, 1, 3, 0, 0),
            "ended",
            "1 of 4 products was created",
            "Foi criado 1 de 4 produtos",
        ),
        (
            make_job("failed", 1994, 0, 1994, 0, 0),
            "ended",
            "None of the 1,994 products was created",
            "Nada foi criado, de 1.994 produtos",
        ),
        (make_job("failed", 1, 0, 1, 0, 0), "ended", "1 product was not created", "Nada foi criado, de 1 produto"),
        (
            make_job("cancelled", 1994, 1200, 3, 0, 791),
            "ended",
            "Import cancelled: 1,200 of 1,994 products had been created",
            "Importação cancelada: 1.200 de 1.994 produtos já existiam",
        ),
        (
            make_job("paused", 1994, 1200, 0, 0, 0, **AWAY),
            "paused",
            "Import of 1,994 products paused: the create endpoint does not answer",
            "Importação de 1.994 produtos pausada: o endpoint que deve criar não responde",
        ),
        (
            make_job("processing", 1994, 1200, 0, 0, 1),
            "dead_lettered",
            "1 of 1,994 products was given up for now",
            "Por ora desistimos de 1 de 1.994 produtos",
        ),
        (
            make_job("paused", 1994, 0, 0, 0, 500, **AWAY),
            "dead_lettered",
            "500 of 1,994 products were given up for now",
            "Por ora desistimos de 500 de 1.994 produtos",
        ),
    ],
)
def test_the_subject_tells_what_happened_with_counts(job: ImportJob, kind: str, english: str, portuguese: str) -> None:
    assert written(job, kind).subject == english
    assert written(job, kind, language="pt-br").subject == portuguese


TEXT = """\
1,668 of 1,994 products were created

This is why the others were not, and what can be done about it.

What became of the rows
      1,668  created (they exist now)
        300  rejected (refused as they are)
         26  failed (no usable answer, even after several tries)

Why rows were not created
- category: No such “category” & more. (300 rows, first at index 17)
- Nobody answered. (26 rows, first at index 1403)

products-failures-6bb4a9f6.csv, attached, holds the 326 rows that were not created, each with the reason.

What you can do
- Correct: open the attached file in a spreadsheet, mend the rows and send it as a new import.
  POST /products/bulk?corrects=6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55
- Retry: if the rows are right and the cause was mended elsewhere, run them again in this import.
  POST /products/bulk/6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55/retry

Download what was not created:
https://shop.example/products/bulk/6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55/failures?format=csv

-- 
You get this mail because you sent this import.
Import of products, 6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55
"""  # noqa: W291 - the mark before a signature ends in a blank


@pytest.fixture
def partly() -> ImportJob:
    problems = [
        {**problem("category", "does_not_exist", "No such “category” & more.", 17), "count": 300},
        {**problem(None, "no_answer", "Nobody answered.", 1403), "count": 26},
    ]
    return make_job("partially_succeeded", 1994, 1668, 300, 26, 0, problems=problems)


def configure(settings: Settings, **changed: str) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PUBLIC_URL": "https://shop.example", "JOB_PAGE_URL": "", **changed}


def test_the_text_reads_from_top_to_bottom(partly: ImportJob, settings: Settings) -> None:
    configure(settings)

    assert written(partly, attachment=ATTACHMENT).text == TEXT


def test_nothing_is_left_in_english_but_what_the_shop_says(partly: ImportJob, settings: Settings) -> None:
    configure(settings)
    text = written(partly, attachment=ATTACHMENT, language="pt-br").text
    shops_own = {"category", "No such “category” & more.", "Nobody answered."}

    assert "- category: No such “category” & more. (300 linhas, a primeira no índice 17)" in text
    english = {line.strip("- ") for line in TEXT.splitlines() if line.strip("- ")} - shops_own
    kept = {line.strip("- ") for line in text.splitlines()} & english
    assert all(line.startswith(("POST", "https:")) for line in kept)


def test_the_html_says_the_same_as_the_text(partly: ImportJob, settings: Settings) -> None:
    configure(settings)
    html = written(partly, attachment=ATTACHMENT).html

    for words in ("1,668 of 1,994", "300 rows, first at index 17", "attached, holds the 326 rows", "corrects=6bb4a9f6"):
        assert words in html
    assert 'href="https://shop.example/products/bulk/6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55/failures?format=csv"' in html
    assert '<html lang="en" dir="ltr">' in html
    assert "<img" not in html
    assert "@import" not in html


def test_what_a_row_brings_along_is_inert() -> None:
    hostile = [problem(SCRIPT, "x", f"{SCRIPT}\r\n\r\nSubject: run", 0)]
    content = written(make_job("failed", 1, 0, 1, 0, 0, problems=hostile))

    assert "<script" not in content.html
    assert "&lt;script&gt;" in content.html
    assert f"- {SCRIPT}: {SCRIPT} Subject: run (1 row, at index 0)" in content.text.splitlines()


def test_a_page_of_ones_own_takes_the_place_of_the_calls(partly: ImportJob, settings: Settings) -> None:
    configure(settings, JOB_PAGE_URL="https://shop.example/imports/{target}/{id}")
    text = written(partly).text

    assert f"Look at the import:\nhttps://shop.example/imports/products/{ID}\n" in text
    assert "POST" not in text


def test_without_a_public_url_there_is_no_link(partly: ImportJob, settings: Settings) -> None:
    configure(settings, PUBLIC_URL="")
    content = written(partly)

    assert "://" not in content.text
    assert "<a " not in content.html


def test_others_get_no_link_and_no_steps(partly: ImportJob, settings: Settings) -> None:
    configure(settings, JOB_PAGE_URL="https://shop.example/imports/{id}")
    content = written(partly, attachment=ATTACHMENT, is_submitters=False)

    assert "://" not in content.text
    assert "What you can do" not in content.text
    assert "<a " not in content.html
    assert "attached, holds the 326 rows" in content.text


@pytest.mark.parametrize(
    "job", [make_job("succeeded", 4, 4, 0, 0, 0), make_job("paused", 4, 1, 0, 0, 0, **AWAY)], ids=["all", "paused"]
)
def test_where_nothing_can_be_done_no_steps_are_told(job: ImportJob) -> None:
    text = written(job, EventKind.PAUSED if job.status == JobStatus.PAUSED else EventKind.ENDED).text

    assert "What you can do" not in text
    assert "Download" not in text


def test_who_may_not_create_any_more_is_told_to_ask() -> None:
    job = make_job("paused", 4, 1, 0, 0, 0, pause_code=PauseCode.FORBIDDEN)

    assert "Ask whoever grants permissions" in written(job, EventKind.PAUSED).text


@pytest.mark.parametrize(("count", "more"), [(MAX_PROBLEMS, ""), (MAX_PROBLEMS + 1, "1 more row for other reasons")])
def test_the_largest_problems_are_told_and_the_others_counted(count: int, more: str) -> None:
    problems = [problem("sku", "invalid", f"Reason {n}.", n) for n in range(count)]
    text = written(make_job("failed", 99, 0, 99, 0, 0, problems=problems)).text

    assert text.count("- sku: Reason") == MAX_PROBLEMS
    assert ("for other reasons" in text) is bool(more)
    assert more in text


def test_the_rest_of_the_problems_is_told_in_the_jobs_language() -> None:
    many = merge_problems([[problem("sku", "invalid", f"Reason {n}.", n) for n in range(MAX_LISTED + 1)]])
    text = written(make_job("failed", 99, 0, 99, 0, 0, problems=many[-1:]), language="pt-br").text

    assert "- Outros motivos; as falhas listam cada um deles. (1 linha, no índice 50)" in text


def test_a_mail_of_every_kind_can_be_sent() -> None:
    """No subject has what a header cannot hold."""
    for status in ("succeeded", "partially_succeeded", "failed", "cancelled", "paused"):
        content = written(make_job(status, 4, 1, 1, 1, 1, **AWAY), language="pt-br")
        EmailMultiAlternatives(content.subject, content.text, to=["ana@shop.example"]).send()

    assert len(outgoing.outbox) == 5
