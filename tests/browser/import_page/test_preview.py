"""Tests of the preview of a file, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import needs_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_chromium


READ = """async ([module, name, text, times]) => {
    const { readFirstRows } = await import(module.replace("main.js", "preview.js"));
    const file = new File([text.repeat(times)], name);
    let read = 0;
    const slice = file.slice.bind(file);
    file.slice = (from, to) => { read += Math.min(to, file.size) - from; return slice(from, to); };
    const rows = await readFirstRows(file);
    return { rows: rows.slice(0, 5), count: rows.length, read, size: file.size };
}"""


def read_first_rows(page: Page, name: str, text: str, times: int = 1) -> Any:
    module = page.locator("script[type=module]").get_attribute("src")
    return page.evaluate(READ, [module, name, text, times])


def test_the_preview_reads_only_the_start_of_a_large_file(page: Page) -> None:
    line = '{"sku": "A", "name": "Zelt für zwei ⛺", "price": 9.50}'
    for name, text in {
        "a.jsonl": f"{line}\n",
        "a.json": f"[{line}" + f",{line}" * 999,
        "a.csv": "sku;name\nA;⛺\n",
    }.items():
        found = read_first_rows(page, name, text, 60_000_000 // len(text.encode()))

        assert found["size"] > 59_000_000
        assert found["read"] == 1024 * 1024
        assert found["count"] > 900


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.csv",
            '\ufeffsku;name\r\nA;"x;""y""\nz"\r\n\r\nB;c\r\n',
            [(2, {"sku": "A", "name": 'x;"y"\nz'}), (5, {"sku": "B", "name": "c"})],
        ),
        ("a.csv", "sku\tname\nA\t1,5;2", [(2, {"sku": "A", "name": "1,5;2"})]),
        ("a.jsonl", '\n{"sku":"A"}\r\n[1]\n', [(2, {"sku": "A"}), (3, {"": "[1]"})]),
        (
            "a.json",
            '[ {"sku": "\\u0041\\",]", "price": 9.50, "n": 12345678901234567890, "t": {"a": [1, 2]}}, 3]',
            [
                (None, {"sku": 'A",]', "price": "9.50", "n": "12345678901234567890", "t": '{"a": [1, 2]}'}),
                (None, {"": "3"}),
            ],
        ),
        ("a.json", '[{"sku": "A"}, {"sku": "B', [(None, {"sku": "A"})]),
    ],
)
def test_the_preview_shows_values_as_they_are_written(page: Page, name: str, text: str, expected: list[Any]) -> None:
    found = read_first_rows(page, name, text)["rows"]

    assert [(row["line"], row["cells"]) for row in found] == expected
    assert [row["index"] for row in found] == list(range(len(expected)))
