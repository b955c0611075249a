"""Every text of bulk_import is available in Brazilian Portuguese."""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bulk_import
from tests.bulk_import.conftest import post_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rest_framework.test import APIClient

PACKAGE = Path(bulk_import.__file__).parent
MARKERS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")
TEMPLATE_TEXT = re.compile(r"""{% translate (["'])(.+?)\1 %}""")


def marked_texts() -> Iterator[list[str]]:
    """The texts of each call that marks one for translation: the singular, and the plural if there is one."""
    for module in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKERS:
                yield [
                    text.value for text in node.args if isinstance(text, ast.Constant) and isinstance(text.value, str)
                ]


def template_texts() -> set[str]:
    """The texts that the templates mark for translation."""
    templates = (PACKAGE / "templates").rglob("*.html")
    return {match[2] for template in templates for match in TEMPLATE_TEXT.finditer(template.read_text())}


@pytest.fixture(scope="module")
def catalogue() -> gettext.GNUTranslations:
    with (PACKAGE / "locale/pt_BR/LC_MESSAGES/django.mo").open("rb") as compiled:
        return gettext.GNUTranslations(compiled)


@pytest.mark.parametrize("texts", list(marked_texts()), ids=lambda texts: texts[0][:50])
def test_every_text_is_translated_with_the_same_placeholders(
    texts: list[str], catalogue: gettext.GNUTranslations
) -> None:
    known = catalogue._catalog  # type: ignore[attr-defined] # the only way to ask whether a text is there
    keys = [texts[0]] if len(texts) == 1 else [(texts[0], plural) for plural in (0, 1)]

    for key, text in zip(keys, texts, strict=False):
        assert known.get(key), f"translate {key} in django.po, then run compilemessages"
        assert sorted(PLACEHOLDER.findall(known[key])) == sorted(PLACEHOLDER.findall(text))


@pytest.mark.parametrize("text", sorted(template_texts()))
def test_every_text_of_a_template_is_translated(text: str, catalogue: gettext.GNUTranslations) -> None:
    known = catalogue._catalog  # type: ignore[attr-defined] # the only way to ask whether a text is there

    assert known.get(text) or known.get((text, 0)), f"translate {text} in django.po, then run compilemessages"


@pytest.mark.django_db
def test_an_error_is_told_in_the_clients_language(client_of_merchandiser: APIClient) -> None:
    answer = post_rows(client_of_merchandiser, [], headers={"Accept-Language": "pt-BR"})

    assert answer.json()["message"] == "O array está vazio. Envie pelo menos uma linha."
