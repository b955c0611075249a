"""The BULK_IMPORT setting: typed, with defaults, and read when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch

from bulk_import.conf import MAX_RETENTION_DAYS, NUMBERS, RETENTIONS, Conf, Target, conf
from bulk_import.models import RETAINED_DATA
from products.serializers import ProductSerializer
from products.views import ProductViewSet

if TYPE_CHECKING:
    from pytest_django import Settings


def test_without_the_setting_every_default_holds(settings: Settings) -> None:
    del settings.BULK_IMPORT

    assert conf() == Conf()


def test_a_name_in_capitals_overrides_its_default(settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_ROWS": 7}

    assert conf() == Conf(max_rows=7)


def test_the_setting_is_read_when_used(settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_ROWS": 7}
    before = conf()
    settings.BULK_IMPORT = {"MAX_ROWS": 8}

    assert (before.max_rows, conf().max_rows) == (7, 8)


def test_unknown_names_are_all_told(settings: Settings) -> None:
    settings.BULK_IMPORT = {"MAX_ROW": 7, "MAX_ROWS": 7, "COLOUR": "red"}

    with pytest.raises(ImproperlyConfigured, match=r"COLOUR, MAX_ROW$"):
        conf()


def test_a_setting_that_is_no_dict_is_told(settings: Settings) -> None:
    settings.BULK_IMPORT = ["products"]

    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        conf()


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_number_has_a_default_above_zero(name: str) -> None:
    assert getattr(Conf(), name) > 0


@pytest.mark.parametrize("number", [0, -1, 1.5, "7", None, True])
@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_that_cannot_be_a_limit_is_told(name: str, number: Any, settings: Settings) -> None:
    """With no rows a chunk would have all of them."""
    settings.BULK_IMPORT = {name.upper(): number}

    with pytest.raises(ImproperlyConfigured, match=f"{name.upper()} must be a whole number above zero"):
        conf()


@pytest.mark.parametrize("name", sorted(RETENTIONS))
def test_a_retention_is_days_or_none(name: str, settings: Settings) -> None:
    for days in (RETENTIONS[name], MAX_RETENTION_DAYS, None):
        settings.BULK_IMPORT = {name.upper(): days}
        assert getattr(conf(), name) == days


@pytest.mark.parametrize("days", [0, -1, 30.5, "30", True, MAX_RETENTION_DAYS + 1])
@pytest.mark.parametrize("name", sorted(RETENTIONS))
def test_a_retention_that_cannot_be_one_is_told(name: str, days: Any, settings: Settings) -> None:
    settings.BULK_IMPORT = {name.upper(): days}

    with pytest.raises(ImproperlyConfigured, match=f"{name.upper()} must be whole days from [0-9]+ to 36500, or None"):
        conf()


@pytest.mark.parametrize("name", ["LEDGER_RETENTION_DAYS", "JOB_RETENTION_DAYS"])
def test_the_ledger_is_kept_for_as_long_as_sqs_may_deliver_its_messages(name: str, settings: Settings) -> None:
    """14 days on the queue, 14 on the dead-letter queue: the most that SQS can be told."""
    settings.BULK_IMPORT = {name: 27}

    with pytest.raises(ImproperlyConfigured, match=f"{name} must be whole days from 28"):
        conf()


def test_every_retention_is_checked() -> None:
    assert RETENTIONS.keys() == {name for name in Conf.__dataclass_fields__ if name.endswith("_retention_days")}
    assert {name.removesuffix("_retention_days") for name in RETENTIONS} == {*RETAINED_DATA, "job"}


def test_one_worker_secret_in_place_of_a_list_is_told(settings: Settings) -> None:
    settings.BULK_IMPORT = {"WORKER_SECRETS": "x" * 40}

    with pytest.raises(ImproperlyConfigured, match="must be a list"):
        conf()


def test_a_row_fits_a_chunk_and_three_heartbeats_fit_a_lease() -> None:
    """The limits agree with each other."""
    assert Conf().max_row_bytes < Conf().chunk_bytes < Conf().max_body_bytes
    assert Conf().heartbeat_seconds * 3 < Conf().lease_seconds


def test_settings_cannot_be_changed_by_who_reads_them() -> None:
    settings_now: Any = conf()

    with pytest.raises(AttributeError):
        settings_now.max_rows = 1


def test_an_unknown_target_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        conf().target("boats")


def test_a_target_knows_its_endpoint() -> None:
    target = conf().target("products")

    assert (target.name, target.create_path) == ("products", "/products/")
    assert target.serializer_class is ProductSerializer


def test_the_create_view_is_a_fresh_one_that_is_about_to_create() -> None:
    first, second = conf().target("products").create_view(), conf().target("products").create_view()

    assert isinstance(first, ProductViewSet)
    assert first is not second
    assert first.action == "create"


def test_a_target_with_an_unknown_url_says_so_when_used() -> None:
    target = Target("boats", create_url="boats:boat-list", serializer="products.serializers.ProductSerializer")

    with pytest.raises(NoReverseMatch):
        target.create_view()
