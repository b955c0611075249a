"""At most two uploads are validated at the same time in one process, and only one of each user."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import.exceptions import BadImport, Busy
from bulk_import.intake.validation_slots import MAX_VALIDATIONS, WAIT_SECONDS, ValidationSlots, slots
from bulk_import.storage.payloads import put_payload
from tests.bulk_import.conftest import Aws, post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient


def user(pk: int) -> Any:
    return SimpleNamespace(pk=pk)


def test_a_user_has_one_slot() -> None:
    mine = ValidationSlots()
    with mine.acquire(user(1)), pytest.raises(Busy), mine.acquire(user(1)):
        pass
    with mine.acquire(user(1)):
        pass


def test_a_process_has_a_limited_number_of_slots() -> None:
    mine = ValidationSlots()
    with ExitStack() as occupied:
        for pk in range(MAX_VALIDATIONS):
            occupied.enter_context(mine.acquire(user(pk)))
        with pytest.raises(Busy), mine.acquire(user(99)):
            pass
    with mine.acquire(user(99)):
        pass


def test_an_upload_waits_shortly_for_its_slot() -> None:
    mine = ValidationSlots()
    first = mine.acquire(user(1))
    first.__enter__()
    release = Thread(target=lambda: first.__exit__(None, None, None))
    release.start()
    with mine.acquire(user(1)):
        release.join()


def test_a_failed_validation_returns_its_slot() -> None:
    mine = ValidationSlots()
    with pytest.raises(BadImport), mine.acquire(user(1)):
        raise BadImport("The file is malformed.")
    with mine.acquire(user(1)):
        pass


def test_the_wait_is_short() -> None:
    """While an upload waits, it occupies a thread of the server."""
    assert WAIT_SECONDS <= 0.5


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_a_second_upload_of_the_same_user_is_503_with_retry_after(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, query: str
) -> None:
    with slots.acquire(merchandiser):
        busy = post_rows(client_of_merchandiser, [product("A")], f"/products/bulk{query}")
    again = post_rows(client_of_merchandiser, [product("A")], f"/products/bulk{query}")

    assert (busy.status_code, busy.json()["code"], busy["Retry-After"]) == (503, "unavailable", "3")
    assert again.status_code == (200 if query else 202)


@pytest.mark.django_db
def test_while_s3_stores_a_payload_no_slot_is_held(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:

    def put_while_another_validates(*arguments: Any) -> Any:
        with slots.acquire(merchandiser):
            return put_payload(*arguments)

    monkeypatch.setattr("bulk_import.intake.accept.put_payload", put_while_another_validates)

    assert post_rows(client_of_merchandiser, [product("A")]).status_code == 202
