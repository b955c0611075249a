"""The download of what was not created: JSON Lines, rows to post again, a CSV for spreadsheets; one row's failure."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import include, path
from django.utils import translation
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from bulk_import.intake.spreadsheets.table import Table
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob
from bulk_import.reports.cells import escape_cell, unescape_cell
from bulk_import.reports.failures import as_table
from bulk_import_wire.lines import failure_line, read_failure_line
from products.models import Product
from settings.urls import urlpatterns
from tests.bulk_import.conftest import Aws, make_user, post_bytes, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

pytestmark = pytest.mark.one_database

BUCKET = "bulk-import-failures"
CSV, NDJSON = "text/csv", "application/x-ndjson"
FIELDS = [
    *("sku", "name", "description", "price", "currency", "stock"),
    *("category", "weight_kg", "color", "size", "barcode", "is_active"),
]
HEADINGS = {
    "en": ["index", "line", "outcome", "HTTP status", "reasons", *FIELDS, "other fields"],
    "pt-br": ["índice", "linha", "resultado", "status HTTP", "motivos", *FIELDS, "outros campos"],
}
DELIMITERS = {"en": ",", "pt-br": ";"}
WIDE_SIGNS = "\uff1d\uff0b\uff0d\uff20"
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks of what is written from right to left: nobody sees them, so a formula seems to begin right after them."""
HOSTILE = re.compile(rf"[\t\r\n]|[\s\ufeff\u200b{DIRECTIONS}]*[=+@{WIDE_SIGNS}-]")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@pytest.fixture
def rows() -> list[bytes]:
    """Seven rows, three chunks; as they are in a payload."""
    return [json.dumps(product(f"S{n}", price=n + 0.5), separators=(",", ":")).encode() for n in range(7)]


@pytest.fixture
def job(client_of_merchandiser: APIClient, aws: Aws, rows: list[bytes]) -> str:
    """Where a job is that nobody has worked on."""
    location: str = post_rows(client_of_merchandiser, b"[" + b",".join(rows) + b"]")["Location"]
    return location


def a_line(index: int, row: bytes, **fields: Any) -> bytes:
    errors = [{"field": "category", "code": "does_not_exist", "message": "There is none."}]
    known = {"index": index, "line": None, "outcome": "rejected", "status": 400, "errors": errors, "attempts": 1}
    return failure_line({**known, "at": "2026-01-01", **fields}, row)


def end_chunk(aws: Aws, number: int, lines: list[bytes], status: ChunkStatus = ChunkStatus.DONE) -> None:
    """As the worker does when those rows of the chunk were not created."""
    chunk = ImportChunk.objects.get(number=number)
    chunk.status, chunk.failures_key = status, f"{chunk.job_id}/{chunk.first_index:09}-1.jsonl" if lines else ""
    chunk.save()
    aws.s3.put_object(Bucket=BUCKET, Key=chunk.failures_key or "none", Body=b"".join(lines))


def end_all(aws: Aws, rows: list[bytes]) -> None:
    """No row was created. The last chunk ends first."""
    for chunk in ImportChunk.objects.order_by("-number"):
        indexes = range(chunk.first_index, chunk.first_index + chunk.row_count)
        end_chunk(aws, chunk.number, [a_line(index, rows[index]) for index in indexes])


def download(client: APIClient, job: str, query: str = "", **headers: str) -> bytes:
    answer = client.get(f"{job}/failures{query}", headers=headers)
    assert answer.status_code == 200
    body: bytes = answer.getvalue()
    return body


def read_table(body: bytes, language: str = "en") -> list[list[str]]:
    text = body.decode()
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:], newline=""), delimiter=DELIMITERS[language], strict=True))


# --- JSON Lines


def test_failures_come_line_by_line_in_input_order(
    client_of_merchandiser: APIClient, aws: Aws, job: str, rows: list[bytes]
) -> None:
    end_all(aws, rows)

    assert download(client_of_merchandiser, job) == b"".join(a_line(n, row) for n, row in enumerate(rows))


@pytest.mark.parametrize(
    ("status", "listed"),
    [(status, status in {ChunkStatus.DONE, ChunkStatus.DEAD}) for status in ChunkStatus],
)
def test_only_the_failures_of_chunks_that_have_ended_count(
    client_of_merchandiser: APIClient, aws: Aws, job: str, *, status: ChunkStatus, listed: bool
) -> None:
    end_chunk(aws, 1, [a_line(4, b"{}")], status)

    assert bool(download(client_of_merchandiser, job)) == listed
    assert client_of_merchandiser.get(f"{job}/failures/4").status_code == (200 if listed else 404)


@pytest.mark.parametrize("accept", ["*/*", "application/json", NDJSON, "text/html,*/*;q=0.8"])
def test_whoever_asks_for_nothing_special_gets_json_lines(
    client_of_merchandiser: APIClient, aws: Aws, job: str, accept: str
) -> None:
    answer = client_of_merchandiser.get(f"{job}/failures", headers={"Accept": accept})

    assert (answer["Content-Type"], answer.getvalue()) == (NDJSON, b"")
    assert "Content-Disposition" not in answer


def test_the_rows_alone_are_those_that_were_sent_and_can_be_posted_again_as_they_are(
    client_of_merchandiser: APIClient, aws: Aws, job: str, rows: list[bytes]
) -> None:
    rows[1] = b'{"sku":"A \\u00e4","price":12.50,"barcode":12345678901234567890,"name":"\\", \\"row\\": "}'
    end_all(aws, rows)
    body = download(client_of_merchandiser, job, "?part=rows")
    again = post_bytes(client_of_merchandiser, "/products/bulk?on_invalid=skip", body, NDJSON)

    assert body == b"".join(row + b"\n" for row in rows)
    assert (again.status_code, again.json()["rows"]) == (202, 7)
    payload = next(aws.payload(key) for key in aws.payload_keys() if again.json()["id"] in key)
    assert payload.splitlines()[::2] == rows[::2]
    assert payload.splitlines()[1].endswith(b"\t" + rows[1])


# --- CSV


@pytest.mark.parametrize("language", ["en", "pt-br"])
@pytest.mark.parametrize(("query", "accept"), [("?format=csv", "*/*"), ("", CSV)], ids=["format", "Accept"])
def test_a_csv_has_the_headings_and_the_delimiter_of_the_language(
    client_of_merchandiser: APIClient, aws: Aws, job: str, *, rows: list[bytes], language: str, query: str, accept: str
) -> None:
    end_all(aws, rows)
    body = download(client_of_merchandiser, job, query, **{"Accept-Language": language, "Accept": accept})

    headings, *records = read_table(body, language)
    assert headings == HEADINGS[language]
    assert [record[0] for record in records] == ["0", "1", "2", "3", "4", "5", "6"]
    values = ["4", "", "rejected", "400", "category: There is none.", "S4", "Ridge Tent", "", "4.5", "EUR", "", "tents"]
    assert records[4] == [*values, *[""] * 6]


def test_without_failures_a_csv_is_its_header(client_of_merchandiser: APIClient, aws: Aws, job: str) -> None:
    assert read_table(download(client_of_merchandiser, job, "?format=csv")) == [HEADINGS["en"]]


def test_the_rows_alone_may_be_a_csv(client_of_merchandiser: APIClient, aws: Aws, job: str, rows: list[bytes]) -> None:
    end_all(aws, rows)
    headings, *records = read_table(download(client_of_merchandiser, job, "?part=rows&format=csv"))

    assert headings == [*FIELDS, "other fields"]
    assert [record[0] for record in records] == [f"S{n}" for n in range(7)]


def table(fields: list[str], *rows: bytes, **known: Any) -> list[list[str]]:
    lines = (a_line(index, row, **known) for index, row in enumerate(rows))
    with translation.override("en"):
        return read_table(b"".join(as_table(lines, fields)))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("12.50", "12.50"),
        ("-5", "-5"),
        ("-0", "-0"),
        ("1E+2", "1E+2"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("true", "true"),
        ("null", ""),
        ('""', ""),
        ('"12.50"', "12.50"),
        ('"\\u00e4 ;,\\"x\\""', 'ä ;,"x"'),
        ('"a\\r\\nb"', "a\r\nb"),
        ('{"a":[1.10,-2,"=x"]}', '{"a":[1.10,\'-2,\'"=x"]}'),
        ('"a\\u0000b"', "a\ufffdb"),
    ],
)
def test_a_value_is_in_its_cell_as_it_was_sent(value: str, cell: str) -> None:
    assert table(["sku"], f'{{"sku":{value}}}'.encode())[1][5:] == [cell, ""]


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ('{"colour":"red","sku":"A","sizes":[1.50]}', ["A", "", '{"colour":"red","sizes":[1.50]}']),
        ("[1.10,null]", ["", "", "[1.10,null]"]),
        ('"=x"', ["", "", '\'"=x"']),
        ("-7.0", ["", "", "-7.0"]),
        ("{}", ["", "", ""]),
    ],
)
def test_what_is_no_field_of_the_target_is_kept_in_the_last_column(row: str, cells: list[str]) -> None:
    assert table(["sku", "name"], row.encode())[1][5:] == cells


def test_reasons_name_the_field_where_there_is_one() -> None:
    errors = [
        {"field": "price", "code": "invalid", "message": "A valid number is required."},
        {"field": None, "code": "no_answer", "message": "=The endpoint did not respond."},
    ]
    known = {"errors": errors, "outcome": "failed", "status": None}

    reasons = "price: A valid number is required.;' =The endpoint did not respond."
    assert table([], b"{}", **known)[1][:5] == ["0", "", "failed", "", reasons]
    assert table([], b"{}", **{**known, "errors": errors[1:]})[1][4] == "'=The endpoint did not respond."


def test_no_column_of_ours_is_taken_for_a_field_of_the_target() -> None:
    assert table(["index", "reasons", "reasons_"])[0] == [
        *("index_", "line", "outcome", "HTTP status", "reasons__"),
        *("index", "reasons", "reasons_", "other fields"),
    ]


@pytest.mark.parametrize("language", ["en", "pt-br"])
def test_an_upload_of_the_csv_leaves_out_the_columns_that_we_have_added(
    client_of_merchandiser: APIClient, aws: Aws, language: str
) -> None:
    """The file has no unknown column, in whichever language it was downloaded. Another column is still unknown."""
    row = json.dumps({**product("A1"), "category": "kayaks"}).encode()
    with translation.override(language):
        body = b"".join(as_table([a_line(0, row)], FIELDS))
    path = "/products/bulk?unknown=reject&dry_run=true&rows=true"
    answer = post_bytes(client_of_merchandiser, path, body, CSV).json()
    refused = post_bytes(client_of_merchandiser, path, body.replace(b"color", b"colour"), CSV).json()

    assert answer["reading"]["ignored"] == []
    assert answer["listed_rows"][0]["row"].keys() <= set(FIELDS)
    assert refused["code"] == "unknown_columns"


signs = st.sampled_from(f"=+-@{WIDE_SIGNS}'\t\r\n ,;\"\u00a0\u3000\ufeff\u200b{DIRECTIONS}\0a1")
hostile_texts = st.text(signs | st.characters(codec="utf-8"))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    hostile_texts | numbers | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_texts, inner, max_size=3),
    max_leaves=5,
)
hostile_rows = values | st.dictionaries(st.sampled_from(["sku", "name"]) | hostile_texts, values)


@pytest.mark.parametrize("language", ["en", "pt-br"])
@given(row=hostile_rows, message=hostile_texts)
@example(row={"sku": "\u3000\uff1d1+1", "name": "'=x"}, message="\t=x")
@example(row={"sku": "\u202e=1+1", "name": "\u200f\u061c@x"}, message="\u2066+x")
def test_no_cell_is_a_formula_unless_it_is_a_number_as_sent(language: str, row: Any, message: str) -> None:
    errors = [{"field": None, "code": "odd", "message": message}]
    with translation.override(language):
        body = b"".join(as_table([a_line(0, json.dumps(row).encode(), errors=errors)], ["sku", "name"]))

    _headings, record = read_table(body, language)
    assert len(record) == 8
    assert not [cell for cell in record if HOSTILE.match(cell) and not NUMBER.fullmatch(cell)]
    assert not any("\0" in cell for cell in record)
    sent = list(row.values()) if isinstance(row, dict) else [row]
    for cell in filter(HOSTILE.match, record):
        assert json.loads(cell) in [value for value in sent if isinstance(value, int | float)]


COMMAND = "=cmd|' /C calc'!A0"


@pytest.mark.parametrize("rows_only", [False, True])
@pytest.mark.parametrize("language", ["en", "pt-br"])
@given(texts=st.lists(st.tuples(hostile_texts, hostile_texts), min_size=1, max_size=3))
@example(texts=[("=1+1", "+1"), ("-1", "@SUM(A1)"), ("\t=1", "\r=1"), ("\n=1", COMMAND), ("\u202e=1", "\u200f")])
@example(
    texts=[('"', '""'), (";", ","), ("'", "''=1"), ('=1";"', "=1\r\n=2"), ("a\rb", "a\u2028b\x85c\x1cd"), ("", " ")]
)
def test_hostile_texts_come_back_as_they_were_sent_when_the_csv_is_posted_again(
    texts: list[tuple[str, str]], language: str, *, rows_only: bool
) -> None:
    """Through the reader that a CSV is posted to. Of an empty cell nothing comes back, NUL is replaced."""
    sent = [{"sku": sku, "name": name} for sku, name in texts]
    lines = [a_line(n, json.dumps(row, ensure_ascii=False).encode()) for n, row in enumerate(sent)]
    with translation.override(language):
        body = b"".join(as_table(lines, ["sku", "name"], rows_only=rows_only))

    came_back = [json.loads(row.json) for row in Table(body)]
    expected = [
        {name: text.replace("\0", "\ufffd") for name, text in row.items() if text}
        for row in sent
        if not rows_only or any(row.values())  # a record without any cell is a blank line
    ]
    assert [{name: row[name] for name in ("sku", "name") if name in row} for row in came_back] == expected


@given(hostile_texts)
def test_what_was_made_inert_is_read_as_it_was_sent(text: str) -> None:
    assert unescape_cell(escape_cell(text)) == text.replace("\0", "\ufffd")


@pytest.mark.parametrize("text", ["", "Tent", "'Tent", "Tent = tent", "1-2", "ä", "<b>", "l'@", "' '"])
def test_what_is_no_formula_is_left_alone(text: str) -> None:
    assert escape_cell(text) == unescape_cell(text) == text


@pytest.mark.parametrize("language", ["en", "pt-br"])
def test_a_csv_that_was_mended_creates_its_rows_when_it_is_posted_again(
    client_of_merchandiser: APIClient, aws: Aws, run_worker: Any, transactional_db: None, language: str
) -> None:
    """A name that a spreadsheet would run is created as it was sent."""
    sent = [
        product("A", name="-10 °C sleeping bag", category="kayaks", price=12.50),
        product("B"),
        product("C", name="'=cmd|'/c calc'!A0", price="cheap", stock=7, is_active=False),
        product("D", name='Two\r\nlines; "quoted", 1,50', category="kayaks", colour="red", barcode="4006381333931"),
    ]
    path, headers = "/products/bulk?on_invalid=skip", {"Accept-Language": language}
    location = post_rows(client_of_merchandiser, sent, path)["Location"]
    run_worker()
    assert set(Product.objects.values_list("sku", flat=True)) == {"B"}

    headings, *records = read_table(download(client_of_merchandiser, location, "?format=csv", **headers), language)
    mended = io.StringIO()
    writer = csv.writer(mended, delimiter=DELIMITERS[language])
    writer.writerow(headings)
    for record in records:
        cells = dict(zip(headings, record, strict=True))
        writer.writerow({**cells, "category": "tents", "price": cells["price"].replace("cheap", "1.99")}.values())
    again = post_bytes(client_of_merchandiser, path, ("\ufeff" + mended.getvalue()).encode(), CSV)
    run_worker()

    assert client_of_merchandiser.get(again["Location"]).json()["counts"]["created"] == 3
    created = {made.sku: made for made in Product.objects.all()}
    assert {sku: made.name for sku, made in created.items()} == {row["sku"]: row["name"] for row in sent}
    assert [str(created[sku].price) for sku in "ACD"] == ["12.50", "1.99", "249.90"]
    assert (created["C"].stock, created["C"].is_active, created["D"].barcode) == (7, False, "4006381333931")


# --- headers


@pytest.mark.parametrize(
    ("query", "content_type", "suffix"),
    [
        ("?format=csv", "text/csv; charset=utf-8", "csv"),
        ("?part=rows", NDJSON, "jsonl"),
        ("?part=rows&format=csv", "text/csv; charset=utf-8", "csv"),
    ],
)
def test_a_download_has_a_name(
    client_of_merchandiser: APIClient, job: str, query: str, content_type: str, suffix: str
) -> None:
    answer = client_of_merchandiser.get(f"{job}/failures{query}")

    name = f"products-failures-{job.rpartition('/')[2][:8]}.{suffix}"
    assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer["Content-Type"] == content_type


@pytest.mark.parametrize(
    ("target", "disposition"),
    [
        (
            'a"; filename=b.exe\r\nSet-Cookie: c=d',
            'attachment; filename="a_filenameb.exeSet-Cookie_cd-failures-{}.csv"',
        ),
        ("../../etc/passwd", 'attachment; filename="....etcpasswd-failures-{}.csv"'),
        ("peças", "attachment; filename*=utf-8''pe%C3%A7as-failures-{}.csv"),
    ],
)
def test_the_name_of_a_target_cannot_break_out_of_the_header(
    client_of_merchandiser: APIClient, job: str, settings: Settings, target: str, disposition: str
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {target: settings.BULK_IMPORT["TARGETS"]["products"]}}
    ImportJob.objects.update(target=target)
    settings.ROOT_URLCONF = ModuleType("urls")
    settings.ROOT_URLCONF.urlpatterns = [path("x", include("bulk_import.urls"), {"target": target}), *urlpatterns]
    job_id = job.rpartition("/")[2]
    answer = client_of_merchandiser.get(f"/x/{job_id}/failures?format=csv")

    assert answer["Content-Disposition"] == disposition.format(job_id[:8])
    assert "Set-Cookie" not in answer


# --- refusals


def use_storage(settings: Settings, url: str) -> None:
    storage = settings.STORAGES["bulk_import_failures"]
    changed = {**storage, "OPTIONS": {**storage["OPTIONS"], "endpoint_url": url}}
    settings.STORAGES = {**settings.STORAGES, "bulk_import_failures": changed}


@pytest.mark.parametrize("path", ["failures", "failures?part=rows", "failures?format=csv", "failures/0"])
def test_a_storage_that_is_away_is_503_and_no_broken_download(
    client_of_merchandiser: APIClient, aws: Aws, job: str, *, rows: list[bytes], settings: Settings, path: str
) -> None:
    end_all(aws, rows)
    use_storage(settings, "http://127.0.0.1:9")  # nobody listens on the discard port
    answer = client_of_merchandiser.get(f"{job}/{path}")

    assert (answer.status_code, answer["Content-Type"], answer["Retry-After"]) == (503, "application/json", "30")
    assert answer.json()["code"] == "unavailable"


@pytest.mark.parametrize("path", ["failures", "failures?part=rows", "failures?format=csv", "failures/0"])
def test_somebody_elses_failures_do_not_exist(aws: Aws, job: str, rows: list[bytes], path: str) -> None:
    end_all(aws, rows)
    other = APIClient()
    other.force_login(make_user("other", "add_product"))
    answer = other.get(f"{job}/{path}")

    assert (answer.status_code, answer["Content-Type"]) == (404, "application/json")
    assert answer.json().keys() == {"code", "message"}


@pytest.mark.parametrize("accept", [CSV, NDJSON, "*/*"])
def test_an_error_is_json_whatever_the_download_would_have_been(
    client_of_merchandiser: APIClient, aws: Aws, job: str, accept: str
) -> None:
    headers = {"Accept": accept}
    unknown = client_of_merchandiser.get(f"{job}/failures?part=x", headers=headers)
    options = client_of_merchandiser.options(f"{job}/failures", headers=headers)

    assert (unknown.status_code, unknown["Content-Type"]) == (400, "application/json")
    assert [error["field"] for error in unknown.json()["errors"]] == ["part"]
    assert (options.status_code, options["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(("query", "accept", "status"), [("", "image/png", 406), ("?format=xls", "*/*", 400)])
def test_a_format_that_there_is_not_is_refused(
    client_of_merchandiser: APIClient, job: str, query: str, accept: str, status: int
) -> None:
    answer = client_of_merchandiser.get(f"{job}/failures{query}", headers={"Accept": accept})

    assert (answer.status_code, answer["Content-Type"]) == (status, "application/json")


# --- one row


def test_the_failure_of_one_row_is_the_same_object(
    client_of_merchandiser: APIClient, aws: Aws, job: str, rows: list[bytes]
) -> None:
    rows[4] = b'{"price":12.50}'
    end_all(aws, rows)

    for slash in ("", "/"):
        answer = client_of_merchandiser.get(f"{job}/failures/4{slash}")
        assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
        assert answer.content == a_line(4, rows[4])


def test_one_row_is_looked_up_in_the_file_of_its_own_chunk(
    client_of_merchandiser: APIClient, aws: Aws, job: str
) -> None:
    end_chunk(aws, 1, [a_line(3, b"{}"), a_line(5, b"{}")])
    ImportChunk.objects.exclude(number=1).update(status=ChunkStatus.DONE, failures_key="missing.jsonl")

    statuses = [client_of_merchandiser.get(f"{job}/failures/{index}").status_code for index in range(8)]
    assert statuses == [503, 503, 503, 200, 404, 200, 503, 404]


@pytest.mark.parametrize("index", ["0", "3", "7", "2147483648", "-1", "+4", "4.0", "1_0", "٤", "x", "%00"])
def test_a_row_that_is_not_among_the_failures_is_not_found(
    client_of_merchandiser: APIClient, aws: Aws, job: str, index: str
) -> None:
    """Row 3 was created, row 0 has not ended."""
    end_chunk(aws, 1, [a_line(4, b"{}")])
    answer = client_of_merchandiser.get(f"{job}/failures/{index}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_index_of_thousands_of_digits_is_not_found(client_of_merchandiser: APIClient, job: str) -> None:
    """Python refuses to make a number of so many."""
    assert client_of_merchandiser.get(f"{job}/failures/{'9' * 5000}").status_code == 404


def test_a_chunk_without_failures_has_none_to_be_found(client_of_merchandiser: APIClient, aws: Aws, job: str) -> None:
    end_chunk(aws, 0, [a_line(2, b"{}")])
    end_chunk(aws, 1, [])

    assert client_of_merchandiser.get(f"{job}/failures/4").status_code == 404


# --- memory


@pytest.fixture
def big_storage() -> Iterator[str]:
    """S3 whose object `<n>-<lines>` is that many failures; none of it is in memory."""
    line = a_line(0, json.dumps(product("A", description="x" * 3_000)).encode())

    class Objects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            lines = int(self.path.partition("?")[0].rpartition("-")[2])
            self.send_response(200)
            self.send_header("Content-Length", str(lines * len(line)))
            self.end_headers()
            for _line in range(lines):
                self.wfile.write(line)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Objects) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("query", ["", "?part=rows", "?format=csv"])
def test_a_download_takes_little_memory_even_if_one_chunk_has_all_failures(
    client_of_merchandiser: APIClient, job: str, settings: Settings, *, big_storage: str, query: str
) -> None:
    """`test_download_memory.py` has the same test with many chunks."""
    use_storage(settings, big_storage)
    ImportChunk.objects.filter(number=0).update(status=ChunkStatus.DONE, failures_key="0-1")
    download(client_of_merchandiser, job, query)  # whatever is made once is made
    ImportChunk.objects.filter(number=0).update(failures_key="0-1000")

    tracemalloc.start()
    try:
        answer: Any = client_of_merchandiser.get(f"{job}/failures{query}")
        size = sum(len(piece) for piece in answer.streaming_content)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size > 3_000_000
    assert peak < 1_000_000


# --- the line


def test_a_line_is_read_with_or_without_its_newline() -> None:
    line = a_line(3, b'{"a": "}"}')

    assert read_failure_line(line) == read_failure_line(line[:-1])
    assert read_failure_line(line)[1] == b'{"a": "}"}'
