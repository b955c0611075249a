"""The BULK_IMPORT setting is typed, has defaults, and is read each time it is used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, include, path
from django.utils.translation import override

from bulk_import.api.downloads import MAX_INDEX_DIGITS
from bulk_import.conf import (
    MAX_CHUNK_ROWS,
    MAX_RETENTION_DAYS,
    MIN_LEASE_SECONDS,
    NUMBERS,
    REMOVED,
    RETENTIONS,
    Conf,
    Target,
    conf,
)
from bulk_import.intake.accept import MAX_CHUNK_BYTES
from bulk_import.models import RETAINED_DATA
from bulk_import.worker_api.views import heartbeat_seconds
from bulk_import_wire.contract import MAX_ANSWER_BYTES, Claim
from products.serializers import ProductSerializer
from products.views import ProductViewSet

if TYPE_CHECKING:
    from pytest_django import Settings


def test_without_the_setting_every_default_applies(settings: Settings) -> None:
    del settings.BULK_IMPORT

    assert conf() == Conf()


def test_a_setting_in_capitals_overrides_its_default(settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_ROWS": 7}

    assert conf() == Conf(max_rows=7)


def test_the_setting_is_read_each_time_it_is_used(settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_ROWS": 7}
    before = conf()
    settings.BULK_IMPORT = {"MAX_ROWS": 8}

    assert (before.max_rows, conf().max_rows) == (7, 8)


def test_all_unknown_names_are_reported(settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_ROW": 7, "MAX_ROWS": 7, "COLOUR": "red"}

    with pytest.raises(ImproperlyConfigured, match=r"COLOUR, MAX_ROW$"):
        conf()


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_the_name_of_a_removed_setting_is_reported(name: str, settings: Settings) -> None:
    settings.BULK_IMPORT = {name.upper(): 7, "COLOUR": "red"}

    with pytest.raises(ImproperlyConfigured, match=f"BULK_IMPORT {name.upper()} is no longer a setting"):
        conf()


def test_a_removed_setting_is_not_a_setting() -> None:
    assert not REMOVED & Conf.__dataclass_fields__.keys()


def test_a_setting_that_is_not_a_dict_is_reported(settings: Settings) -> None:
    settings.BULK_IMPORT = ["products"]

    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        conf()


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_number_has_a_default_above_zero(name: str) -> None:
    assert getattr(Conf(), name) > 0


@pytest.mark.parametrize("number", [0, -1, 1.5, "7", None, True])
@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_an_invalid_number_is_reported(name: str, number: Any, settings: Settings) -> None:
    """For example, chunks without rows would never finish an import."""
    settings.BULK_IMPORT = {name.upper(): number}

    with pytest.raises(ImproperlyConfigured, match=f"{name.upper()} must be a whole number above zero"):
        conf()


@pytest.mark.parametrize(
    ("name", "number", "limit"), [("CHUNK_ROWS", 5001, "at most 5000"), ("LEASE_SECONDS", 1, "at least 2")]
)
def test_a_number_out_of_proportion_is_reported(name: str, number: int, limit: str, settings: Settings) -> None:
    settings.BULK_IMPORT = {name: number}

    with pytest.raises(ImproperlyConfigured, match=f"BULK_IMPORT {name} must be {limit}"):
        conf()


def test_the_answer_to_a_claim_of_the_largest_chunk_is_read_whole() -> None:
    """It is longest if every other row of the chunk was created, and if the indexes have ten digits."""
    last = 10**MAX_INDEX_DIGITS - 1
    ranges = [[index, index] for index in range(last - MAX_CHUNK_ROWS + 1, last + 1, 2)]
    claim = Claim(
        epoch=2**63 - 1,
        lease_seconds=60,
        heartbeat_seconds=2,
        create_path="/" + "x" * 1000,
        token="x" * 1000,
        language="pt-br",
        created=ranges,
        failures_key="x" * 1000,
        concurrency=16,
        cancelled=False,
    )

    assert len(json.dumps(claim.to_dict(), separators=(",", ":"))) < MAX_ANSWER_BYTES


@pytest.mark.parametrize("lease_seconds", [MIN_LEASE_SECONDS, 3, 4, 60, 10_000])
def test_a_heartbeat_comes_before_the_lease_ends(lease_seconds: int, settings: Settings) -> None:
    settings.BULK_IMPORT = {"LEASE_SECONDS": lease_seconds}

    assert 0 < heartbeat_seconds(conf().lease_seconds) <= lease_seconds / 2


@pytest.mark.parametrize("name", sorted(RETENTIONS))
def test_a_retention_is_a_number_of_days_or_none(name: str, settings: Settings) -> None:
    for days in (RETENTIONS[name], MAX_RETENTION_DAYS, None):
        settings.BULK_IMPORT = {name.upper(): days}
        assert getattr(conf(), name) == days


@pytest.mark.parametrize("days", [0, -1, 30.5, "30", True, MAX_RETENTION_DAYS + 1])
@pytest.mark.parametrize("name", sorted(RETENTIONS))
def test_an_invalid_retention_is_reported(name: str, days: Any, settings: Settings) -> None:
    settings.BULK_IMPORT = {name.upper(): days}

    with pytest.raises(ImproperlyConfigured, match=f"{name.upper()} must be whole days from [0-9]+ to 36500, or None"):
        conf()


@pytest.mark.parametrize("name", ["LEDGER_RETENTION_DAYS", "JOB_RETENTION_DAYS"])
def test_the_ledger_is_kept_for_as_long_as_sqs_may_deliver_messages(name: str, settings: Settings) -> None:
    """SQS keeps a message for at most 14 days on the queue and 14 days on the dead-letter queue."""
    settings.BULK_IMPORT = {name: 27}

    with pytest.raises(ImproperlyConfigured, match=f"{name} must be whole days from 28"):
        conf()


def test_every_retention_is_checked() -> None:
    assert RETENTIONS.keys() == {name for name in Conf.__dataclass_fields__ if name.endswith("_retention_days")}
    assert {name.removesuffix("_retention_days") for name in RETENTIONS} == {*RETAINED_DATA, "job"}


def test_a_worker_secret_that_is_not_in_a_list_is_reported(settings: Settings) -> None:
    settings.BULK_IMPORT = {"WORKER_SECRETS": "x" * 40}

    with pytest.raises(ImproperlyConfigured, match="must be a list"):
        conf()


def test_a_row_fits_a_chunk_and_three_heartbeats_fit_a_lease() -> None:
    """The defaults and the constants fit each other."""
    assert Conf().max_row_bytes < MAX_CHUNK_BYTES < Conf().max_body_bytes
    assert heartbeat_seconds(Conf().lease_seconds) * 3 < Conf().lease_seconds


@pytest.mark.parametrize(("lease_seconds", "expected"), [(60, 2), (20, 2), (6, 2), (5, 1), (2, 1), (1, 1)])
def test_a_short_lease_has_frequent_heartbeats(lease_seconds: int, expected: int) -> None:
    assert heartbeat_seconds(lease_seconds) == expected


def test_the_settings_object_cannot_be_changed() -> None:
    settings_now: Any = conf()

    with pytest.raises(AttributeError):
        settings_now.max_rows = 1


def test_an_unknown_target_raises_a_key_error() -> None:
    with pytest.raises(KeyError):
        conf().target("boats")


def test_a_target_knows_its_endpoint() -> None:
    target = conf().target("products")

    assert (target.name, target.create_path) == ("products", "/products/")
    assert target.serializer_class is ProductSerializer


urlpatterns = i18n_patterns(path("shop/", include("products.urls")))


def test_the_path_of_the_create_endpoint_follows_the_urlconf_and_the_language(settings: Settings) -> None:
    target = conf().target("products")
    assert target.create_path == "/products/"

    settings.ROOT_URLCONF = __name__
    for language in ("en", "pt-br"):
        with override(language):
            assert target.create_path == f"/{language}/shop/"


def test_the_create_view_is_a_new_instance_with_the_create_action() -> None:
    first, second = conf().target("products").create_view(), conf().target("products").create_view()

    assert isinstance(first, ProductViewSet)
    assert first is not second
    assert first.action == "create"


def test_a_target_with_an_unknown_url_raises_when_it_is_used() -> None:
    target = Target("boats", create_url="boats:boat-list", serializer="products.serializers.ProductSerializer")

    with pytest.raises(NoReverseMatch):
        target.create_view()


@pytest.mark.parametrize("share", [0.5, 0.9, None])
def test_the_share_of_failed_rows_is_a_fraction_or_none(share: float | None, settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_FAILED_SHARE": share}

    assert conf().max_failed_share == share


@pytest.mark.parametrize("share", [0.0, 1.0, 90, "0.9", True])
def test_an_invalid_share_of_failed_rows_is_reported(share: Any, settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_FAILED_SHARE": share}

    with pytest.raises(ImproperlyConfigured, match="MAX_FAILED_SHARE must be between 0 and 1"):
        conf()
