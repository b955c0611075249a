"""JSON Lines, CSV, forms and gzip all become the same rows. An error says where the file is malformed."""

from __future__ import annotations

import gzip
import io
import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.asgi import ASGIRequest
from rest_framework.request import Request
from rest_framework.test import APIClient

from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.formats import split_lines
from bulk_import.intake.json_rows import split_array
from bulk_import.intake.request_body import PIECE_BYTES, read_body
from bulk_import.intake.spreadsheets.table import Table
from tests.bulk_import.conftest import Aws, post_bytes, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_django import Settings

    from bulk_import.intake.raw_rows import RawRow

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
DRY_RUN = "/products/bulk?dry_run=true"
HEADER = b"sku,name,price,currency,category\n"
ROW = b"A,Tent,12.50,EUR,tents\n"
BODIES = {
    JSON: json.dumps([product("A")]).encode(),
    NDJSON: json.dumps(product("A")).encode(),
    CSV: HEADER + ROW,
}

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def read(split: Callable[[bytes], Iterable[RawRow]], body: bytes) -> list[tuple[Any, int | None]]:
    return [(json.loads(row.json), row.line) for row in split(body)]


def refusal(split: Callable[[bytes], Iterable[RawRow]], body: bytes) -> BadImport:
    with pytest.raises(BadImport) as refused:
        list(split(body))
    return refused.value


def dry_run(client: APIClient, body: bytes, content_type: str, **headers: str) -> Any:
    return post_bytes(client, DRY_RUN, body, content_type, headers)


def send_files(client: APIClient, *files: SimpleUploadedFile, **headers: str) -> Any:
    form = {f"file-{number}": file for number, file in enumerate(files)}
    return client.post(DRY_RUN, form or {"note": "no file"}, format="multipart", headers=headers)


@pytest.fixture
def csrf_client(merchandiser: Any) -> APIClient:
    """A client like a browser, with a session and the token of its CSRF cookie in a header."""
    client = APIClient(enforce_csrf_checks=True, headers={"X-CSRFToken": "a" * 32})
    client.login(username="merchandiser", password="secret")
    client.cookies["csrftoken"] = "a" * 32
    return client


# --- JSON and JSON Lines


def test_the_rows_of_an_array_have_no_line() -> None:
    assert read(split_array, b'[{"a": 1}, 2]') == [({"a": 1}, None), (2, None)]


def test_a_body_is_read_in_pieces_if_its_length_is_negative() -> None:
    """A server may pass on such a length. With a negative size, `read` would return the whole body, however large."""
    sizes: list[int] = []

    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size or 0)
            return super().read(size)

    headers = [(b"content-type", JSON.encode()), (b"content-length", b"-1")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    request = Request(ASGIRequest(scope, Stream(b"[" * 11)))

    with pytest.raises(BodyTooLarge):
        read_body(request, limit=10)
    assert sizes == [PIECE_BYTES]


def test_a_line_of_json_lines_is_a_row() -> None:
    assert read(split_lines, b'{"a": 1}\n{"a": 2}') == [({"a": 1}, 1), ({"a": 2}, 2)]


def test_blank_lines_are_not_rows_but_count_as_lines() -> None:
    assert read(split_lines, b'\n{"a": 1}\r\n\r\n \t\n{"a": 2}\n\n') == [({"a": 1}, 2), ({"a": 2}, 5)]


def test_a_unicode_line_separator_does_not_end_a_line() -> None:
    body = '{"a": "x\u2028y\u0085z"}\n'.encode()

    assert read(split_lines, body) == [({"a": "x\u2028y\u0085z"}, 1)]


def test_the_error_of_a_malformed_line_has_its_index_and_line(client_of_merchandiser: APIClient) -> None:
    body = json.dumps(product("A")).encode() + b'\n\n{"sku": \n' + json.dumps(product("B", price="cheap")).encode()
    answer = dry_run(client_of_merchandiser, body, NDJSON).json()

    assert (answer["rows"], answer["invalid_rows"]) == (3, 2)
    assert [(e["index"], e["line"], e["field"], e["code"]) for e in answer["errors"]] == [
        (1, 3, None, "malformed_row"),
        (2, 4, "price", "invalid"),
    ]


def test_a_byte_order_mark_is_an_error_of_the_first_line(client_of_merchandiser: APIClient) -> None:
    """JSON does not allow it. The error names the line, and the other lines are validated."""
    answer = dry_run(client_of_merchandiser, b"\xef\xbb\xbf" + BODIES[NDJSON], NDJSON).json()

    assert [(error["index"], error["line"]) for error in answer["errors"]] == [(0, 1)]


def test_a_file_of_blank_lines_is_empty(client_of_merchandiser: APIClient) -> None:
    answer = dry_run(client_of_merchandiser, b"\n\r\n \n", NDJSON)

    assert (answer.status_code, answer.json()["code"]) == (400, "empty_body")


@pytest.mark.parametrize("content_type", [NDJSON, CSV])
def test_a_row_that_is_too_large_is_refused_in_every_format(
    client_of_merchandiser: APIClient, settings: Settings, content_type: str
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROW_BYTES": 200}
    body = BODIES[content_type].replace(b"Tent", b"x" * 300).replace(b"Ridge ", b"")
    answer = post_bytes(client_of_merchandiser, "/products/bulk", body, content_type)

    assert answer.status_code in {400, 413}
    assert "row_too_large" in answer.content.decode()


# --- CSV


@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"])
def test_comma_semicolon_and_tab_separate_cells(delimiter: bytes) -> None:
    assert read(Table, b"a,b,c\n1,2,3\n".replace(b",", delimiter)) == [({"a": "1", "b": "2", "c": "3"}, 2)]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_newline_ends_a_record(newline: bytes) -> None:
    assert read(Table, b"a,b\n1,2\n3,4".replace(b"\n", newline)) == [
        ({"a": "1", "b": "2"}, 2),
        ({"a": "3", "b": "4"}, 3),
    ]


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    assert read(Table, b"\xef\xbb\xbfa;b\n1;2\n") == [({"a": "1", "b": "2"}, 2)]


def test_a_byte_order_mark_may_precede_a_quoted_name() -> None:
    assert read(Table, b'\xef\xbb\xbf"a","b"\n1,2\n') == [({"a": "1", "b": "2"}, 2)]


def test_a_quoted_newline_belongs_to_its_cell_and_counts_as_a_line() -> None:
    body = b'a,b\n"one\ntwo\r\nthree",x\n\n,\n"a ""quote""","c,d"\n'

    assert read(Table, body) == [
        ({"a": "one\ntwo\r\nthree", "b": "x"}, 2),
        ({"a": 'a "quote"', "b": "c,d"}, 7),
    ]


def test_an_empty_cell_is_an_absent_field() -> None:
    assert read(Table, b'a,b,c\n1,,\n,"",3\n4\n') == [({"a": "1"}, 2), ({"c": "3"}, 3), ({"a": "4"}, 4)]


def test_names_are_stripped_but_cells_are_not() -> None:
    assert read(Table, b" a , b\n 1 ,2 \n") == [({"a": " 1 ", "b": "2 "}, 2)]


def test_a_header_may_follow_blank_lines() -> None:
    assert read(Table, b"\r\n\na;b;c,d\n1;2\n") == [({"a": "1", "b": "2"}, 4)]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"a,b,a", "named “a”"),
        (b"a,,b", "has no name"),
        (b"a,b,", "has no name"),
        (b"a, a", "named “a”"),
        (b'a," ",b', "has no name"),
    ],
    ids=["twice", "no name", "no name at the end", "twice with a blank", "blank"],
)
def test_a_header_without_a_name_or_with_a_duplicate_name_is_refused(header: bytes, problem: str) -> None:
    refused = refusal(Table, b"\n" + header + b"\n1,2,3\n")

    assert refused.code == "malformed_header"
    assert "(line 2)" in refused.message
    assert problem in refused.message


def test_too_many_cells_are_refused_with_their_line() -> None:
    refused = refusal(Table, b'a,b\n"1\n",2\n1,2,3\n')

    assert refused.code == "too_many_cells"
    assert refused.message.startswith("Line 4 has 3 cells, but the header row has only 2.")


@pytest.mark.parametrize(
    ("body", "line"),
    [(b"a,b\n1,caf\xe9\n", 2), (b"a,b\n1,2\n" * 9000 + b"\xff\n", 18001)],
    ids=["latin-1", "far in"],
)
def test_a_csv_that_is_not_in_utf_8_is_refused_with_its_line(body: bytes, line: int) -> None:
    assert f"not in UTF-8 (line {line})" in refusal(Table, body).message


def test_a_cut_off_last_character_is_not_utf_8() -> None:
    assert "not in UTF-8 (line 2)" in refusal(Table, b"a,b\n1,\xe2\x82").message


@pytest.mark.parametrize("body", [b'a,b\n1,2\n"1,2\n3,4\n', b'a,b\n1,2\n"1"x,2\n'], ids=["open", "text after it"])
def test_an_unbalanced_quote_is_refused_with_its_line(body: bytes) -> None:
    refused = refusal(Table, body)

    assert (refused.code, "line 3" in refused.message) == ("malformed_body", True)


def test_a_header_alone_has_no_rows(client_of_merchandiser: APIClient) -> None:
    answer = dry_run(client_of_merchandiser, HEADER, CSV)

    assert (answer.status_code, answer.json()["code"]) == (400, "no_rows")


def test_a_csv_that_its_column_names_make_too_large_is_refused(settings: Settings) -> None:
    """Each row of 4 bytes is 1,000 as JSON."""
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_BODY_BYTES": 10_000}
    rows = iter(Table(b"sku," + b"n" * 1000 + b"\n" + b"A,x\n" * 100))

    assert len(list(islice(rows, 19))) == 19
    with pytest.raises(BodyTooLarge):
        next(rows)


def test_an_endless_record_is_refused_at_the_limit_of_a_row(settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROW_BYTES": 100}

    for body in (b"a\n" + b"x" * 101, b'a\n"' + b"\n" * 101, b"a," * 101, b"a\n" + b'"\n",' * 101):
        assert refusal(Table, body).code == "row_too_large"
    assert len(read(Table, b"a\n" + b"123456789\n" * 1000)) == 1000


def test_the_serializer_gives_cells_their_type(client_of_merchandiser: APIClient, aws: Aws, db: None) -> None:
    """The payload contains the strings, because the create endpoint also accepts "12.50", "7" and "True"."""
    header, row = HEADER.strip() + b",stock,is_active,barcode\n", ROW.strip() + b",7,True,\n"

    assert dry_run(client_of_merchandiser, header + row, CSV).json()["valid_rows"] == 1
    refused = dry_run(client_of_merchandiser, header + row.replace(b",7,True,", b",x,perhaps,"), CSV).json()
    assert [(error["line"], error["field"]) for error in refused["errors"]] == [(2, "stock"), (2, "is_active")]


def test_errors_name_index_and_line(client_of_merchandiser: APIClient) -> None:
    body = HEADER + b'A,"Two\nlines",1,EUR,tents\n\n' + b"B,Tent,cheap,EUR,tents\n"
    answer = post_bytes(client_of_merchandiser, "/products/bulk", body, CSV)

    assert answer.status_code == 400
    assert [(e["index"], e["line"], e["field"]) for e in answer.json()["errors"]] == [(1, 5, "price")]


@pytest.mark.parametrize("content_type", BODIES)
@pytest.mark.django_db(transaction=True)
def test_every_format_becomes_json_lines_in_the_payload(
    client_of_merchandiser: APIClient, aws: Aws, content_type: str
) -> None:
    answer = post_bytes(client_of_merchandiser, "/products/bulk", BODIES[content_type], content_type)

    assert answer.status_code == 202
    (key,) = aws.payload_keys()
    row = json.loads(aws.payload(key))
    assert row == (product("A", name="Tent", price="12.50") if content_type == CSV else product("A"))


# --- content types


@pytest.mark.parametrize("content_type", ["application/xml", "text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("session", ["csrf_client", "client_of_merchandiser"])
def test_an_unknown_or_missing_content_type_is_415(
    content_type: str, session: str, request: pytest.FixtureRequest
) -> None:
    answer = dry_run(request.getfixturevalue(session), BODIES[JSON], content_type)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json; charset=utf-8", "application/json ;x"])
def test_parameters_and_case_of_a_content_type_do_not_matter(
    client_of_merchandiser: APIClient, content_type: str
) -> None:
    assert dry_run(client_of_merchandiser, BODIES[JSON], content_type).status_code == 200


@pytest.mark.parametrize("content_type", BODIES)
def test_a_session_with_its_csrf_token_may_send_every_format(
    csrf_client: APIClient, content_type: str, settings: Settings
) -> None:
    """The CSRF check asks DRF for a form field. This must not read a body that is not a form."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000  # bytes of a body that Django reads
    body = BODIES[content_type] + b"\n" * 1_000
    answer = dry_run(csrf_client, body, content_type)

    assert (answer.status_code, answer.json()["valid_rows"]) == (200, 1)


# --- forms


@pytest.mark.parametrize(
    ("name", "content_type", "body"),
    [
        ("rows.json", "application/octet-stream", BODIES[JSON]),
        ("ROWS.CSV", "application/vnd.ms-excel", BODIES[CSV]),
        ("rows.ndjson", "text/plain", BODIES[NDJSON]),
        ("rows.jsonl", "application/json", BODIES[NDJSON]),
        ("rows", "text/csv; charset=utf-8", BODIES[CSV]),
        ("rows.dat", "application/json", BODIES[JSON]),
    ],
)
def test_the_format_of_a_file_is_its_suffix_or_else_its_content_type(
    client_of_merchandiser: APIClient, name: str, content_type: str, body: bytes
) -> None:
    answer = send_files(client_of_merchandiser, SimpleUploadedFile(name, body, content_type))

    assert (answer.status_code, answer.json()["valid_rows"]) == (200, 1)


def test_a_file_with_an_unknown_suffix_and_type_is_415(client_of_merchandiser: APIClient) -> None:
    answer = send_files(client_of_merchandiser, SimpleUploadedFile("rows.dat", b"PK", "application/zip"))

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("files", [0, 2])
def test_no_file_or_two_are_refused(client_of_merchandiser: APIClient, files: int) -> None:
    sent = [SimpleUploadedFile(f"{number}.csv", BODIES[CSV]) for number in range(files)]
    answer = send_files(client_of_merchandiser, *sent)

    assert (answer.status_code, answer.json()["code"]) == (400, "not_one_file")
    assert f"This form has {files}." in answer.json()["message"]


def test_two_files_with_the_same_field_name_are_refused(client_of_merchandiser: APIClient) -> None:
    sent = [SimpleUploadedFile(f"{number}.csv", BODIES[CSV]) for number in range(2)]
    answer = client_of_merchandiser.post(DRY_RUN, {"file": sent}, format="multipart")

    assert answer.json()["code"] == "not_one_file"


def test_a_form_with_session_and_csrf_header_is_accepted(csrf_client: APIClient) -> None:
    assert send_files(csrf_client, SimpleUploadedFile("rows.csv", BODIES[CSV])).status_code == 200


def test_a_form_may_contain_the_csrf_token_in_a_field(merchandiser: Any) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.login(username="merchandiser", password="secret")
    client.cookies["csrftoken"] = "a" * 32
    form = {"csrfmiddlewaretoken": "a" * 32, "file": SimpleUploadedFile("rows.csv", BODIES[CSV])}

    assert client.post(DRY_RUN, form, format="multipart").status_code == 200


def test_a_form_without_the_csrf_token_is_403(merchandiser: Any) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.login(username="merchandiser", password="secret")
    answer = send_files(client, SimpleUploadedFile("rows.csv", BODIES[CSV]))

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("session", ["csrf_client", "client_of_merchandiser"])
@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=\xe9", "multipart/form-data; boundary="]
)
def test_a_form_that_cannot_be_read_is_400(content_type: str, session: str, request: pytest.FixtureRequest) -> None:
    answer = dry_run(request.getfixturevalue(session), b"--x\r\n", content_type)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("session", ["csrf_client", "client_of_merchandiser"])
def test_a_form_of_a_thousand_files_is_400(session: str, request: pytest.FixtureRequest) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.csv"\r\n\r\na\r\n'
    client = request.getfixturevalue(session)
    answer = dry_run(client, part * 1000 + b"--x--\r\n", "multipart/form-data; boundary=x")

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


def test_an_incomplete_form_is_refused(client_of_merchandiser: APIClient) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.csv"\r\n\r\n' + HEADER + ROW
    answer = dry_run(client_of_merchandiser, part, "multipart/form-data; boundary=x")

    assert answer.status_code == 400


def test_a_file_over_the_limit_is_413(client_of_merchandiser: APIClient, settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_BODY_BYTES": len(BODIES[CSV]) - 1}
    answer = send_files(client_of_merchandiser, SimpleUploadedFile("rows.csv", BODIES[CSV]))

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


# --- gzip


@pytest.mark.parametrize("content_type", BODIES)
def test_gzip_is_decompressed(client_of_merchandiser: APIClient, content_type: str) -> None:
    body = gzip.compress(BODIES[content_type])

    assert dry_run(client_of_merchandiser, body, content_type, Content_Encoding="GZip").status_code == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(BODIES[JSON])[:-9], "is incomplete"),
        (gzip.compress(BODIES[JSON])[:-1], "is incomplete"),
        (gzip.compress(BODIES[JSON]) + b"more", "more data after the end"),
        (gzip.compress(b"[") + gzip.compress(b"]"), "more data after the end"),
        (gzip.compress(BODIES[JSON])[:-8] + b"\0" * 8, "not valid gzip"),
        (BODIES[JSON], "not valid gzip"),
        (b"", "is incomplete"),
    ],
    ids=["truncated", "without its last byte", "garbage after it", "two members", "wrong checksum", "plain", "empty"],
)
def test_broken_gzip_is_refused_with_what_is_wrong(client_of_merchandiser: APIClient, body: bytes, reason: str) -> None:
    answer = dry_run(client_of_merchandiser, body, JSON, Content_Encoding="gzip")

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert reason in answer.json()["message"]


def test_a_gzip_bomb_is_413(client_of_merchandiser: APIClient, settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_BODY_BYTES": 100_000}
    answer = dry_run(client_of_merchandiser, gzip.compress(b"[" * 10_000_000), JSON, Content_Encoding="gzip")

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_the_limit_applies_to_the_decompressed_body(client_of_merchandiser: APIClient, settings: Settings) -> None:
    body = BODIES[JSON] + b" " * 300_000
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_BODY_BYTES": len(body)}

    assert dry_run(client_of_merchandiser, body, JSON).status_code == 200
    assert dry_run(client_of_merchandiser, gzip.compress(body), JSON, Content_Encoding="gzip").status_code == 200
    assert dry_run(client_of_merchandiser, body + b" ", JSON).status_code == 413
    answer = dry_run(client_of_merchandiser, gzip.compress(body + b" "), JSON, Content_Encoding="gzip")
    assert answer.status_code == 413


@pytest.mark.parametrize("coding", ["deflate", "br", "gzip, gzip", "zstd"])
def test_another_content_coding_is_415(client_of_merchandiser: APIClient, coding: str) -> None:
    answer = dry_run(client_of_merchandiser, BODIES[JSON], JSON, Content_Encoding=coding)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert coding in answer.json()["message"]


@pytest.mark.parametrize("body", [b"", b" ", b" \t\r\n"])
@pytest.mark.parametrize(
    ("content_type", "hint"), [(JSON, "Send a JSON array"), (NDJSON, "Send at least one line"), (CSV, "a header row")]
)
def test_an_empty_file_is_refused_with_what_to_send(
    client_of_merchandiser: APIClient, body: bytes, content_type: str, hint: str
) -> None:
    answer = dry_run(client_of_merchandiser, body, content_type)

    assert (answer.status_code, answer.json()["code"]) == (400, "empty_body")
    assert answer.json()["message"].startswith("This file is empty. ")
    assert hint in answer.json()["message"]


def test_a_file_that_is_too_large_is_refused_with_the_limit(
    client_of_merchandiser: APIClient, settings: Settings
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_BODY_BYTES": 1024 * 1024}
    answer = dry_run(client_of_merchandiser, b" " * (1024 * 1024 + 1), JSON)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert "The limit is 1 MB." in answer.json()["message"]


@pytest.mark.parametrize(("content_type", "reason"), [("text/plain", "“text/plain”"), ("", "has no Content-Type")])
def test_an_unsupported_file_is_refused_with_the_supported_formats(
    client_of_merchandiser: APIClient, content_type: str, reason: str
) -> None:
    message = dry_run(client_of_merchandiser, BODIES[CSV], content_type).json()["message"]

    assert reason in message
    assert "Send a spreadsheet, CSV, JSON or JSON Lines" in message


def test_a_dry_run_of_an_array_counts_its_rows(client_of_merchandiser: APIClient) -> None:
    assert post_rows(client_of_merchandiser, [product("A")], DRY_RUN).json()["rows"] == 1
