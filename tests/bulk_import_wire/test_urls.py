"""The rule for URLs that an operator configures."""

from __future__ import annotations

import pytest

from bulk_import_wire.urls import is_http_url


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "http://localhost:8000/shop/",
        "https://[::1]:8443",
        "https://shop.example/{target}/import/?job={id}",
    ],
)
def test_an_absolute_url_is_accepted(url: str) -> None:
    assert is_http_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "/imports",
        "https://",
        "https:///imports",
        "ftp://shop.example",
        "javascript://shop.example",
        "https://[shop.example",
        "https://shop.example:port",
        "https://shop.example:0",
        "https://shop.example:65536",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    assert not is_http_url(url)
