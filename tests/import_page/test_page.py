"""Tests of the server side of the import page: sign-in, Content-Security-Policy and texts. For the page itself, see
tests/browser/import_page.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission, User

import import_page
import products

if TYPE_CHECKING:
    from django.test import Client

PACKAGE = Path(import_page.__file__).parent
SHOP_MODULES = sorted([*PACKAGE.rglob("*.py"), *Path(products.__file__).parent.rglob("*.py")])
LANGUAGES = ["en", "pt-br"]
TEXTS = {language: json.loads((PACKAGE / f"texts/{language}.json").read_text("utf-8")) for language in LANGUAGES}
PLACEHOLDER = re.compile(r"\{\w+\}")


@pytest.fixture
def visitor(db: None) -> User:
    return User.objects.create_user("visitor", password="secret")


@pytest.mark.django_db
def test_an_anonymous_user_returns_to_the_import_after_signing_in(client: Client, visitor: User) -> None:
    address = "/products/import/?job=8fc29b8e-644b-4a62-abaa-80a7cbd14be6"
    redirect = client.get(address)
    form = client.get(redirect["Location"])
    credentials = {"username": "visitor", "password": "secret", "next": form.context["next"]}
    signed_in = client.post(redirect["Location"], credentials)

    assert redirect["Location"].startswith("/sign-in/?next=")
    assert f'name="next" value="{address}"' in form.content.decode()
    assert signed_in["Location"] == address
    assert client.get(address).status_code == 200


@pytest.mark.django_db
def test_a_wrong_password_is_explained(client: Client, visitor: User) -> None:
    response = client.post("/sign-in/", {"username": "visitor", "password": "wrong"})

    assert TEXTS["en"]["sign_in_refused"] in response.content.decode()


def test_the_page_loads_only_files_of_this_site(client: Client, visitor: User) -> None:
    sign_in = client.get("/sign-in/")
    client.force_login(visitor)
    for response in (sign_in, client.get("/products/import/")):
        policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
        page = response.content.decode()

        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert not re.search(r"<style|\sstyle=|\son\w+=", page)
        assert all("src=" in tag or "application/json" in tag for tag in re.findall(r"<script[^>]*>", page))
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", page)


@pytest.mark.parametrize(("accepted", "language"), [("en", "en"), ("pt-BR", "pt-br"), ("pt", "pt-br"), ("sv", "en")])
def test_the_page_is_in_the_browsers_language(client: Client, visitor: User, accepted: str, language: str) -> None:
    client.force_login(visitor)
    page = client.get("/products/import/", headers={"Accept-Language": accepted}).content.decode()

    assert f'<html lang="{language}">' in page
    assert TEXTS[language]["drop_here"] in page
    assert ("Import products" if language == "en" else "Importar produtos") in page


@pytest.mark.urls("tests.import_page.two_targets")
def test_a_site_can_have_a_page_for_each_of_its_targets(client: Client, visitor: User, settings: Any) -> None:
    serializer = "tests.import_page.two_targets.CategorySerializer"
    categories = {"create_url": "categories", "serializer": serializer}
    targets = {**settings.BULK_IMPORT["TARGETS"], "categories": categories}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": targets, "MAX_BODY_BYTES": 2 * 1024 * 1024}
    client.force_login(visitor)

    page = client.get("/categories/import/").content.decode()
    assert "Import categories" in page
    assert "up to 2.0\xa0MB" in page
    assert 'data-api="/categories/bulk" data-max-bytes="2097152"' in page
    assert 'data-lookup="">' in page  # and without data-rehearse
    assert '{"name": "slug", "label": "Slug", "required": true}' in page
    assert "created_at" not in page
    assert "example.csv" not in page
    products = client.get("/products/import/").content.decode()
    assert 'data-api="/products/bulk"' in products
    assert 'data-lookup="sku" data-rehearse>' in products
    assert client.get("/unknown/import/").status_code == 404


def test_staff_who_may_see_all_imports_find_them_from_the_page(client: Client, visitor: User, settings: Any) -> None:
    client.force_login(visitor)
    assert TEXTS["en"]["only_yours"] in client.get("/products/import/").content.decode()
    visitor.is_staff = True
    visitor.save()
    assert "importjob" not in client.get("/products/import/").content.decode()
    visitor.user_permissions.add(Permission.objects.get(codename="view_importjob"))

    page = client.get("/products/import/").content.decode()
    assert client.get(re.search(r'"(/admin/[^"]+)"', page)[1]).status_code == 200  # type: ignore[index]
    settings.ROOT_URLCONF = "tests.import_page.two_targets"  # a site without the admin
    assert "importjob" not in client.get("/products/import/").content.decode()


def test_each_language_has_the_same_texts_with_the_same_placeholders() -> None:
    english, portuguese = TEXTS["en"], TEXTS["pt-br"]

    assert list(english) == list(portuguese)
    for key, text in english.items():
        assert type(text) is type(portuguese[key]), key
        forms = text if isinstance(text, dict) else {"": text}
        for form in forms:
            pair = [TEXTS[name][key][form] if form else TEXTS[name][key] for name in LANGUAGES]
            assert all(pair), key
            assert set(PLACEHOLDER.findall(pair[0])) == set(PLACEHOLDER.findall(pair[1])), key


def test_every_used_text_exists_and_every_text_is_used() -> None:
    script = "".join(file.read_text("utf-8") for file in PACKAGE.rglob("*.js"))
    templates = "".join(file.read_text("utf-8") for file in PACKAGE.rglob("*.html"))
    in_templates = set(re.findall(r"texts\.(\w+)", templates))
    called = set(re.findall(r'\bt\("([a-z_]+)"', script))
    families = tuple(re.findall(r"`(\w+_)\$\{", script))  # keys that the script builds, such as status_…

    assert called | in_templates <= set(TEXTS["en"])
    unused = {key for key in TEXTS["en"] if f'"{key}"' not in script and key not in in_templates}
    assert {key for key in unused if not key.startswith(families)} == set()


@pytest.mark.parametrize("module", SHOP_MODULES, ids=lambda module: f"{module.parent.name}/{module.name}")
def test_the_shop_imports_none_of_the_bulk_import_packages(module: Path) -> None:
    tree = ast.parse(module.read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not {
        name for name in imported if name.partition(".")[0] in {"bulk_import", "bulk_import_wire", "lambda_worker"}
    }
