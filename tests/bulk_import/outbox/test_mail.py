"""What an email says: the result in the subject, then the reasons and the next steps, in both languages."""

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
    job.updated_count = job.unchanged_count = job.deleted_count = 0
    return job


def compose_in(
    job: ImportJob,
    kind: str = EventKind.ENDED,
    attachment: Attachment | None = None,
    *,
    language: str = "en",
    to_submitter: bool = True,
) -> Content:
    with override(language):
        return compose(job, kind, attachment, to_submitter=to_submitter)


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
            "Não foi possível criar 1.994 produtos",
        ),
        (make_job("failed", 1, 0, 1, 0, 0), "ended", "1 product was not created", "Não foi possível criar 1 produto"),
        (
            make_job("cancelled", 1994, 1200, 3, 0, 791),
            "ended",
            "Import cancelled: 1,200 of 1,994 products were created",
            "Importação cancelada: foram criados 1.200 de 1.994 produtos",
        ),
        (
            make_job("paused", 1994, 1200, 0, 0, 0, **AWAY),
            "paused",
            "Import of 1,994 products paused: the create endpoint does not answer",
            "Importação de 1.994 produtos pausada: o endpoint de criação não responde",
        ),
        (
            make_job("processing", 1994, 1200, 0, 0, 1),
            "dead_lettered",
            "1 of 1,994 products could not be processed",
            "Não foi possível processar 1 de 1.994 produtos",
        ),
        (
            make_job("paused", 1994, 0, 0, 0, 500, **AWAY),
            "dead_lettered",
            "500 of 1,994 products could not be processed",
            "Não foi possível processar 500 de 1.994 produtos",
        ),
    ],
)
def test_the_subject_says_what_happened_with_counts(job: ImportJob, kind: str, english: str, portuguese: str) -> None:
    assert compose_in(job, kind).subject == english
    assert compose_in(job, kind, language="pt-br").subject == portuguese


TEXT = """\
1,668 of 1,994 products were created

The other rows were not created. See the reasons below.

Results
      1,668  created
        300  rejected (these rows contain errors)
         26  failed (no valid response from the server, even after several attempts)

Why rows were not created
- category: No such “category” & more. (300 rows, first in line 18)
- Nobody answered. (26 rows, first at index 1403)

The attached file products-failures-6bb4a9f6.csv contains the 326 rows that were not created, each with the reason.

Next steps
- Correct the rows: open the attached file in a spreadsheet, fix the rows, and send the file as a new import.
  POST /products/bulk?corrects=6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55
- Retry without changes: if the rows are correct and the cause has been fixed, retry them in this import.
  POST /products/bulk/6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55/retry

Download the rows that were not created:
https://shop.example/products/bulk/6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55/failures?format=csv

-- 
You received this email because you started this import.
Import of products, 6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55
"""  # noqa: W291 - the line before a signature ends with a space


@pytest.fixture
def partly() -> ImportJob:
    problems = [
        {**problem("category", "does_not_exist", "No such “category” & more.", 17), "count": 300, "first_line": 18},
        {**problem(None, "no_answer", "Nobody answered.", 1403), "count": 26},
    ]
    return make_job("partially_succeeded", 1994, 1668, 300, 26, 0, problems=problems)


def configure(settings: Settings, **changed: str) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PUBLIC_URL": "https://shop.example", "JOB_PAGE_URL": "", **changed}


def test_the_text_reads_from_top_to_bottom(partly: ImportJob, settings: Settings) -> None:
    configure(settings)

    assert compose_in(partly, attachment=ATTACHMENT).text == TEXT


def test_the_portuguese_email_is_english_only_where_the_shop_is(partly: ImportJob, settings: Settings) -> None:
    configure(settings)
    text = compose_in(partly, attachment=ATTACHMENT, language="pt-br").text
    shops_own = {"category", "No such “category” & more.", "Nobody answered."}

    assert "- category: No such “category” & more. (300 linhas, a primeira na linha 18)" in text
    english = {line.strip("- ") for line in TEXT.splitlines() if line.strip("- ")} - shops_own
    kept = {line.strip("- ") for line in text.splitlines()} & english
    assert all(line.startswith(("POST", "https:")) for line in kept)


def test_the_html_says_the_same_as_the_text(partly: ImportJob, settings: Settings) -> None:
    configure(settings)
    html = compose_in(partly, attachment=ATTACHMENT).html

    for words in ("1,668 of 1,994", "300 rows, first in line 18", "contains the 326 rows", "corrects=6bb4a9f6"):
        assert words in html
    assert 'href="https://shop.example/products/bulk/6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55/failures?format=csv"' in html
    assert '<html lang="en" dir="ltr">' in html
    assert "<img" not in html
    assert "@import" not in html


def test_markup_in_a_row_is_escaped() -> None:
    hostile = [problem(SCRIPT, "x", f"{SCRIPT}\r\n\r\nSubject: run", 0)]
    content = compose_in(make_job("failed", 1, 0, 1, 0, 0, problems=hostile))

    assert "<script" not in content.html
    assert "&lt;script&gt;" in content.html
    assert f"- {SCRIPT}: {SCRIPT} Subject: run (1 row, at index 0)" in content.text.splitlines()


def test_the_page_of_the_site_replaces_the_api_requests(partly: ImportJob, settings: Settings) -> None:
    configure(settings, JOB_PAGE_URL="https://shop.example/imports/{target}/{id}")
    text = compose_in(partly).text

    assert f"View the import:\nhttps://shop.example/imports/products/{ID}\n" in text
    assert "POST" not in text


def test_without_a_public_url_there_is_no_link(partly: ImportJob, settings: Settings) -> None:
    configure(settings, PUBLIC_URL="")
    content = compose_in(partly)

    assert "://" not in content.text
    assert "<a " not in content.html


def test_other_recipients_get_no_links_and_no_next_steps(partly: ImportJob, settings: Settings) -> None:
    configure(settings, JOB_PAGE_URL="https://shop.example/imports/{id}")
    content = compose_in(partly, attachment=ATTACHMENT, to_submitter=False)

    assert "://" not in content.text
    assert "Next steps" not in content.text
    assert "<a " not in content.html
    assert "contains the 326 rows" in content.text


@pytest.mark.parametrize(
    "job", [make_job("succeeded", 4, 4, 0, 0, 0), make_job("paused", 4, 1, 0, 0, 0, **AWAY)], ids=["all", "paused"]
)
def test_there_are_no_next_steps_if_nothing_can_be_done(job: ImportJob) -> None:
    text = compose_in(job, EventKind.PAUSED if job.status == JobStatus.PAUSED else EventKind.ENDED).text

    assert "Next steps" not in text
    assert "Download" not in text


def test_a_submitter_without_permission_is_advised_to_ask_for_it() -> None:
    job = make_job("paused", 4, 1, 0, 0, 0, pause_code=PauseCode.FORBIDDEN)

    assert "Ask an administrator for permission to add products." in compose_in(job, EventKind.PAUSED).text


@pytest.mark.parametrize(
    ("count", "more"), [(MAX_PROBLEMS, ""), (MAX_PROBLEMS + 1, "1 more row was not created for another reason")]
)
def test_the_largest_problems_are_listed_and_the_others_counted(count: int, more: str) -> None:
    problems = [problem("sku", "invalid", f"Reason {n}.", n) for n in range(count)]
    text = compose_in(make_job("failed", 99, 0, 99, 0, 0, problems=problems)).text

    assert text.count("- sku: Reason") == MAX_PROBLEMS
    assert ("for another reason" in text) is bool(more)
    assert more in text


def test_the_summary_of_the_other_problems_is_translated() -> None:
    many = merge_problems([[problem("sku", "invalid", f"Reason {n}.", n) for n in range(MAX_LISTED + 1)]])
    text = compose_in(make_job("failed", 99, 0, 99, 0, 0, problems=many[-1:]), language="pt-br").text

    assert "- Outros motivos. A lista de falhas mostra cada um deles. (1 linha, no índice 50)" in text


def test_an_email_of_every_kind_can_be_sent() -> None:
    """Every subject is a valid header."""
    for status in ("succeeded", "partially_succeeded", "failed", "cancelled", "paused"):
        content = compose_in(make_job(status, 4, 1, 1, 1, 1, **AWAY), language="pt-br")
        EmailMultiAlternatives(content.subject, content.text, to=["ana@shop.example"]).send()

    assert len(outgoing.outbox) == 5


@pytest.mark.parametrize(
    ("status", "subject", "em_portugues"),
    [
        ("succeeded", "All 9 products were imported", "Importação concluída: 9 produtos"),
        ("partially_succeeded", "7 of 9 products were imported", "Foram importadas 7 de 9 linhas (produtos)"),
        ("failed", "None of the 9 products was imported", "Nenhuma das 9 linhas (produtos) foi importada"),
        (
            "cancelled",
            "Import cancelled: 7 of 9 products were imported",
            "Importação cancelada: foram importadas 7 de 9 linhas (produtos)",
        ),
    ],
)
def test_the_email_about_changes_counts_every_row_that_was_imported(
    status: str, subject: str, em_portugues: str
) -> None:
    job = make_job(status, 9, 1, 2, 0, 0, mode="upsert")
    job.updated_count, job.unchanged_count = 4, 2

    content = compose_in(job)

    assert content.subject == subject
    assert compose_in(job, language="pt-br").subject == em_portugues
    lines = [line.split() for line in content.text.splitlines()]
    assert [line for line in lines if line[1:2] in (["created"], ["updated"], ["unchanged"])] == [
        ["1", "created"],
        ["4", "updated"],
        ["2", "unchanged"],
    ]
    assert "created" not in content.text.replace("1  created", "").split("Results")[0]


@pytest.mark.parametrize(
    ("unchanged", "subject", "sentence"),
    [
        (120, "All 121 products were imported", "120 products existed already and were left unchanged."),
        (1, "All 2 products were imported", "1 product existed already and was left unchanged."),
        (0, "All 1,200 products existed already", "1,200 products existed already and were left unchanged."),
    ],
)
def test_the_email_about_a_file_whose_products_existed_says_so(unchanged: int, subject: str, sentence: str) -> None:
    created = 1 if unchanged else 0
    job = make_job("succeeded", (unchanged or 1200) + created, created, 0, 0, 0, mode="skip")
    job.unchanged_count = unchanged or 1200

    content = compose_in(job)

    assert content.subject == subject
    assert sentence in content.text
    job.created_count, job.unchanged_count = job.rows, 0
    assert compose_in(job).subject == f"All {job.rows:,} products were created"
    job.created_count, job.unchanged_count = 0, job.rows
    job.mode = "upsert"  # there, a row is unchanged because the object had its values
    assert "existed already" not in compose_in(job).text


def test_the_email_about_a_file_that_was_created_twice_says_so() -> None:
    problem = {"field": "sku", "code": "unique", "message": "Taken", "count": 120, "first_index": 0}
    job = make_job("partially_succeeded", 120, 0, 120, 0, 0, problems=[problem])

    assert "120 products existed already and were left unchanged." in compose_in(job).text


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({"mode": "undo"}, "Undo of 5 products paused: the create endpoint does not answer"),
        ({"rehearsal": True}, "Import of 5 products paused: the create endpoint does not answer"),
    ],
)
def test_an_email_about_a_paused_undo_or_rehearsal_says_why(fields: dict[str, Any], subject: str) -> None:
    job = make_job("paused", 5, 0, 0, 0, 0, **AWAY, **fields)

    content = compose_in(job, EventKind.PAUSED)

    assert content.subject == subject
    assert "It is paused because" in content.text


def test_an_undo_has_no_rows_to_correct_and_a_rehearsal_can_be_run() -> None:
    undo = compose_in(make_job("partially_succeeded", 5, 0, 2, 0, 0, mode="undo"), attachment=ATTACHMENT).text
    rehearsal = compose_in(make_job("partially_succeeded", 5, 3, 2, 0, 0, rehearsal=True), attachment=ATTACHMENT).text

    assert "Correct the rows" not in undo
    assert "contain errors" not in undo
    assert "Retry without changes" in undo
    assert "Start the real import" in rehearsal
