"""A compiled serializer and DRF alone give the same errors, messages and values, and make the same calls.

With COMPILED_EXAMPLES=10000, this compares that many serializers, with up to ROWS rows each, instead of a few hundred.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinLengthValidator, RegexValidator
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.validators import UniqueValidator

from bulk_import.conf import Target
from bulk_import.errors import flatten_errors
from bulk_import.intake import row_batch, row_validator, validation
from bulk_import.intake.compiled_serializer import FieldCheck, compile_serializer
from bulk_import.intake.endpoint_rules import skip_database_checks
from bulk_import.intake.payload import Payload
from bulk_import.intake.raw_rows import RawRow
from bulk_import.intake.row_validator import RowValidator
from bulk_import.intake.validation import validate_rows
from products.models import Category, Product
from products.serializers import ProductSerializer
from tests.bulk_import.conftest import product
from tests.bulk_import.intake.test_validation import FIELD_VALUES, PRODUCTS, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Sample = serializers.Serializer[Any]
    OfProduct = serializers.ModelSerializer[Product]
else:
    Sample = serializers.Serializer
    OfProduct = serializers.ModelSerializer

ROWS = 10
EXAMPLES = int(os.environ.get("COMPILED_EXAMPLES", "300"))
MANY = hypothesis_settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

# The calls of the target's own code, in order, with their arguments.
CALLS: list[Any] = []


# --- the target's own code: validators, defaults, field classes and validate methods


def own_validator(value: Any) -> None:
    CALLS.append(("validator", repr(value)))
    if str(value).endswith(("b", "1")):
        raise serializers.ValidationError(f"{value} is not for us.", code="own")


def django_validator(value: Any) -> None:
    CALLS.append(("django", repr(value)))
    if str(value).startswith(("a", "1")):
        raise DjangoValidationError("Nor %(value)s.", code="django", params={"value": value})


def own_default() -> str:
    CALLS.append("default")
    return "own"


class ShoutingField(serializers.CharField):
    """A subclass may behave differently from DRF's class."""

    def to_internal_value(self, data: Any) -> Any:
        CALLS.append(("shout", repr(data)))
        return str(super().to_internal_value(data)).upper()


class StrictField(serializers.IntegerField):
    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data == 1:
            self.fail("invalid")
        return super().run_validation(data)


def validate_upper(_serializer: Any, value: Any) -> Any:
    CALLS.append(("upper", repr(value)))
    return value.upper()  # raises AttributeError for everything that is not a text


def validate_once(serializer: Any, value: Any) -> Any:
    """Refuses a value that it has seen before, so a second call for the same row would be noticed."""
    CALLS.append(("once", repr(value)))
    seen = vars(serializer).setdefault("seen", [])
    if value in seen:
        raise serializers.ValidationError("Again.", code="again")
    seen.append(value)
    return value


def validate_refusing(_serializer: Any, value: Any) -> Any:
    CALLS.append(("refusing", repr(value)))
    if value in ("a", 1, None):
        raise DjangoValidationError(["Not this.", "Nor that."])
    return value


VALIDATE_METHODS = [validate_upper, validate_once, validate_refusing]

# --- serializers

TEXTS = [
    *("", " ", "\t", "a", "b", " a ", "ab", "abc", "abcdef", "a b", "a-b_1", "A", "é", "ﬀ", "\u212a", "a\n", "\x1c"),
    *(
        "\u00a0",
        "\u2028a",
        "a\0",
        "\ud800",
        "\ud83d\ude00",
        "\U0001f600",
        "null",
        "None",
        "true",
        "TRUE",
        "f",
        "Off",
        "on",
    ),
    *(
        "0",
        "1",
        "-1",
        "01",
        "+1",
        "1.0",
        "1.",
        ".5",
        "0.5",
        "-0",
        "-0.0",
        "12.34",
        "123.45",
        "1e2",
        "1E-2",
        "1_0",
        "٣",
        "²",
    ),
    *(" 1", "1 ", "NaN", "Infinity", "-inf", "sNaN", "9" * 18, "9" * 19, "1" * 31, "1" * 1001, "0" * 20 + "1", "1,5"),
    *("2024-02-29", "2023-02-29", "20240229", "2024-W09-4", "2024-2-9", "2024-02-29T00:00", "0000-01-01", "29.02.2024"),
]
OTHERS: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 10, 99, 100, 12345, 10**17, 10**18, -(10**18), 10**30, 10**5000),
    *(0.0, -0.0, 0.5, 1.0, 1.5, 0.1, 12.34, 1e16, 1e22, 1e-5, 1e-7, 100000.0, -1.5, float("inf"), float("nan")),
    *([], [1], ["a"], {}, {"a": 1}, {"f0": "a"}, [{"f0": "a"}], [{}], [None]),
]
SCALARS = (
    st.sampled_from([*TEXTS, *OTHERS])
    | st.text(max_size=4)
    | st.integers(-20, 20)
    | st.decimals(-200, 200, places=2, allow_nan=False).map(str)
)


def some(**options: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Generate a dict with some of the options, each from its own strategy."""
    return st.fixed_dictionaries({}, optional=options)


SMALL = st.integers(0, 4)
BOUND = st.integers(-2, 12) | st.sampled_from([Decimal("0.5"), Decimal(0), Decimal("12.34")])
YES_NO = st.booleans()
DIGITS = st.sampled_from([(5, 2), (4, 0), (3, 1), (2, 2), (1, 0), (5, 3), (None, 2), (4, None), (None, None)])
CHOICES = st.lists(st.sampled_from(["a", "b", "", " ", "1", 1, True, 2.5, "é"]), min_size=1, max_size=4)
DATE_FORMATS = st.sampled_from([["iso-8601"], ["%d.%m.%Y", "iso-8601"], ["%d.%m.%Y"], ["ISO-8601", "%Y"], []])
TEXT_OPTIONS = {"max_length": SMALL, "min_length": SMALL, "allow_blank": YES_NO, "trim_whitespace": YES_NO}
EXTRA_VALIDATORS = st.lists(
    st.sampled_from(
        [
            *(own_validator, django_validator, MaxLengthValidator(2), MinLengthValidator(lambda: 2)),
            *(MaxValueValidator(5), RegexValidator("[a1]"), RegexValidator("b", inverse_match=True)),
            UniqueValidator(Category.objects.all()),
        ]
    ),
    max_size=2,
)


def kind(field_class: Any, **options: Any) -> st.SearchStrategy[tuple[Any, dict[str, Any]]]:
    return st.tuples(st.just(field_class), some(**options))


KNOWN_KINDS = st.one_of(
    kind(serializers.CharField, **TEXT_OPTIONS),
    kind(serializers.SlugField, allow_unicode=YES_NO, **TEXT_OPTIONS),
    kind(serializers.RegexField, **TEXT_OPTIONS).map(lambda made: (made[0], {**made[1], "regex": "^[a-z]+$"})),
    kind(serializers.IntegerField, min_value=BOUND, max_value=BOUND),
    st.tuples(DIGITS, some(min_value=BOUND, max_value=BOUND, localize=YES_NO, rounding=st.just("ROUND_UP"))).map(
        lambda made: (
            serializers.DecimalField,
            {"max_digits": made[0][0], "decimal_places": made[0][1], **made[1]},
        )
    ),
    CHOICES.flatmap(lambda choices: kind(serializers.ChoiceField, choices=st.just(choices), allow_blank=YES_NO)).filter(
        lambda made: "choices" in made[1]
    ),
    kind(serializers.BooleanField),
    kind(serializers.DateField, input_formats=DATE_FORMATS),
)
OTHER_KINDS = st.one_of(
    kind(ShoutingField, **TEXT_OPTIONS),
    kind(StrictField, min_value=BOUND),
    kind(serializers.EmailField),
    kind(serializers.FloatField, min_value=BOUND),
    kind(serializers.JSONField),
    st.builds(lambda: (serializers.ListField, {"child": serializers.CharField(max_length=2)})),
    st.just((serializers.SlugRelatedField, {"slug_field": "slug", "queryset": Category.objects.all()})),
    st.just((serializers.PrimaryKeyRelatedField, {"many": True, "queryset": Category.objects.all()})),
)


def one_in(count: int) -> st.SearchStrategy[bool]:
    """Generate True rarely. Hypothesis prefers the ends of a range, so True is in the middle."""
    return st.integers(0, count).map(lambda number: number == count // 2)


@st.composite
def fields(draw: st.DrawFn, depth: int) -> Any:
    """Generate a field of any kind, with any options that DRF allows."""
    if depth and draw(one_in(6)):
        options = draw(some(allow_null=YES_NO, required=YES_NO))
        if draw(YES_NO):
            options |= {"many": True, **draw(some(allow_empty=YES_NO, max_length=SMALL, min_length=SMALL))}
        return draw(serializer_classes(depth - 1))(**options)
    field_class, options = draw(OTHER_KINDS if draw(one_in(8)) else KNOWN_KINDS)
    options = {**options, **draw(some(allow_null=YES_NO))}
    is_related = "queryset" in options
    presence = draw(st.sampled_from(["required", "required", "optional", "default", "callable", "read_only"]))
    match presence:
        case "optional":
            options["required"] = False
        case "default" if not is_related:
            options["default"] = draw(st.sampled_from(["a", None, 1, ""]))
        case "callable" if not is_related:
            options["default"] = own_default
        case "read_only" if not is_related:
            options["read_only"] = True
            options |= draw(some(default=st.sampled_from(["a", own_default])))
    if draw(one_in(8)) and not is_related:
        # These replace the validators of the class. DRF then adds those for options such as max_length.
        options["validators"] = draw(EXTRA_VALIDATORS)
    source = draw(st.sampled_from([None] * 40 + ["elsewhere", "deep.inside", "*"]))
    if source and "many" not in options:
        options["source"] = source
    return field_class(**options)


def own_method(data: Any) -> Any:
    CALLS.append(("own", repr(data)))
    return data


def meddle(serializer: Any, meddling: str) -> None:
    """Change the first field in one of the ways that a target may use in its `__init__`."""
    if not serializer.fields:
        return
    field = next(iter(serializer.fields.values()))
    match meddling:
        case "method":
            field.to_internal_value = own_method
        case "required":
            field.required, field.allow_null = not field.required, not field.allow_null
        case "attributes":
            for name in ("max_length", "max_digits", "decimal_places", "max_whole_digits", "min_value"):
                setattr(field, name, 1)
        case "validators":
            field.validators = [own_validator]
        case "partial":
            serializer.partial = True
        case "set_value":
            serializer.set_value = lambda *_arguments: None


@st.composite
def serializer_classes(draw: st.DrawFn, depth: int = 2) -> type[Any]:
    made = {f"f{number}": draw(fields(depth)) for number in range(draw(st.integers(1, 5)))}
    members: dict[str, Any] = dict(made)
    for name in made:
        if draw(one_in(12)):
            members[f"validate_{name}"] = draw(st.sampled_from(VALIDATE_METHODS))
    meddling = draw(
        st.sampled_from([""] * 24 + ["method", "required", "attributes", "validators", "partial", "set_value"])
    )
    if meddling:

        def make(self: Any, *args: Any, **options: Any) -> None:
            serializers.Serializer.__init__(self, *args, **options)
            meddle(self, meddling)

        members["__init__"] = make
    override = draw(st.sampled_from([""] * 24 + ["to_internal_value", "run_validation", "run_validators", "fields"]))
    if override == "fields":
        all_fields: Any = serializers.Serializer.fields
        members["fields"] = property(lambda self: fewer(all_fields.func(self)))
    elif override:

        def overridden(self: Any, data: Any) -> Any:
            CALLS.append((override, repr(data)))
            return getattr(serializers.Serializer, override)(self, data)

        members[override] = overridden
    made_class: type[Any] = type("Generated", (serializers.Serializer,), members)
    return made_class


def fewer(fields: Any) -> Any:
    """Return the fields without the last one, as a target with a dynamic choice of fields may do."""
    if len(fields) > 1:
        del fields[list(fields)[-1]]
    return fields


# --- rows


def likely_values(field: Any) -> st.SearchStrategy[Any]:
    """Generate values that the field probably accepts."""
    likely: st.SearchStrategy[Any] = SCALARS
    match field:
        case serializers.ListSerializer():
            likely = st.lists(likely_rows(field.child), min_size=1, max_size=3)
        case serializers.Serializer():
            likely = likely_rows(field)
        case serializers.ChoiceField():
            likely = st.sampled_from([*field.choice_strings_to_values])
        case serializers.BooleanField():
            likely = st.booleans() | st.sampled_from(["true", "Off", "1", "0"])
        case serializers.DateField():
            likely = st.dates().map(str)
        case serializers.IntegerField():
            low, high = math.ceil(field.min_value or 0), math.floor(12 if field.max_value is None else field.max_value)
            likely = st.integers(min(low, high), high) | st.integers(min(low, high), high).map(str)
        case serializers.DecimalField():
            low, high = math.floor(field.min_value or 0), math.ceil(12 if field.max_value is None else field.max_value)
            numbers = st.decimals(min(low, high), high, places=field.decimal_places or 0)
            likely = numbers.map(str) | numbers.map(float) | st.integers(0, 9)
        case serializers.CharField():
            low, high = field.min_length or 1, 4 if field.max_length is None else field.max_length
            padding = st.sampled_from(["", "", "", " ", "\u00a0"])
            likely = st.builds(str.__add__, st.text("abc", min_size=min(low, high), max_size=high), padding)
    return likely | st.none() if getattr(field, "allow_null", False) else likely


def likely_rows(serializer: Any) -> st.SearchStrategy[Any]:
    likely = {name: likely_values(field) for name, field in serializer.fields.items()}
    optional = {name: likely.pop(name) for name, field in serializer.fields.items() if not field.required}
    return st.fixed_dictionaries(likely, optional=optional)


def rows(serializer: Any) -> st.SearchStrategy[Any]:
    """Generate rows that are probably valid, rows with one unusual value, and arbitrary rows."""
    names = list(serializer.fields) or ["unknown"]
    likely = likely_rows(serializer)
    odd = st.dictionaries(st.sampled_from(names), SCALARS, min_size=1, max_size=1)
    nearly = st.builds(dict.__or__, likely, odd)
    without = st.builds(lambda row, name: {key: row[key] for key in row if key != name}, likely, st.sampled_from(names))
    wild = st.dictionaries(st.sampled_from([*names, "unknown"]), SCALARS)
    return st.one_of(likely, likely, likely, nearly, nearly, nearly, without, wild)


# --- both sides


class LogRecorder(logging.Handler):
    """Records what the validation logs about exceptions of the target's code."""

    def emit(self, record: logging.LogRecord) -> None:
        CALLS.append(record.getMessage())


@contextmanager
def recorded() -> Iterator[list[Any]]:
    """Yield a list that contains, after the block, what was called and logged inside it."""
    CALLS.clear()
    handler = LogRecorder()
    row_validator.logger.addHandler(handler)
    row_validator.logger.propagate = False
    calls: list[Any] = []
    try:
        yield calls
    finally:
        row_validator.logger.removeHandler(handler)
        row_validator.logger.propagate = True
        calls += CALLS


def outcome(validate: Callable[[Any], Any], row: Any) -> Any:
    """Return the validated values, or the errors, or the class of another exception."""
    try:
        validated = validate(row)
    except serializers.ValidationError as error:
        return list(flatten_errors(error.detail))
    except Exception as error:  # noqa: BLE001 - the target's code may raise anything
        return type(error)
    with unlimited_digits():
        values = sorted(validated.items(), key=lambda item: str(item[0])) if isinstance(validated, dict) else validated
        return repr(values)


@contextmanager
def unlimited_digits() -> Iterator[None]:
    """Allow integers of any length to be converted to text."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(limit)


def stripped(serializer_class: type[Any]) -> Any:
    serializer = serializer_class(context={"request": request()})
    skip_database_checks(serializer)
    return serializer


def compare_values(serializer_class: type[Any], candidates: list[Any]) -> int:
    """Validate each row with DRF alone and with the compiled serializer. Return how many passed the fast checks."""
    alone, helped = stripped(serializer_class), stripped(serializer_class)
    compiled = compile_serializer(helped, needed_values=list(helped.fields))
    passed = 0
    for row in candidates:
        with recorded() as calls_alone:
            expected = outcome(alone.run_validation, row)
        with recorded() as calls_helped:
            passes = compiled is not None and compiled.are_certain([row])
            validate = compiled.validate if compiled and passes else helped.run_validation
            actual = outcome(validate, row)
        assert (actual, calls_helped) == (expected, calls_alone), row
        passed += passes
    return passed


def validated_import(raw_rows: list[RawRow], *, is_compiled: bool) -> tuple[Any, bytes, list[Any]]:
    """Return the ValidationResult, the payload, and what was called."""
    target = Target("products", "products:product-list", f"{__name__}.CURRENT")

    class Uncompiled(RowValidator):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._compiled = None

    with pytest.MonkeyPatch.context() as patch, recorded() as calls, Payload() as payload:
        patch.setattr(row_batch, "BATCH_ROWS", 2)  # so that many batches have only valid rows, and many only one
        if not is_compiled:
            patch.setattr(validation, "RowValidator", Uncompiled)
        result = validate_rows(target, raw_rows, request(), payload, skip_invalid=True)
        return result, payload.open().read(), calls


CURRENT: type[Any] = ProductSerializer


@pytest.mark.timeout(120 + EXAMPLES)
@MANY
@given(data=st.data())
def test_generated_rows_give_the_same_results_as_drf_alone(data: st.DataObject) -> None:
    """Compares errors, messages, values, calls of the target's own code, and the payload of an import."""
    serializer_class = data.draw(serializer_classes())
    candidates = data.draw(
        st.lists(st.one_of(*[rows(serializer_class())] * 9, SCALARS), min_size=ROWS // 2, max_size=ROWS)
    )

    compare_values(serializer_class, candidates)

    globals()["CURRENT"] = serializer_class
    raw_rows = [RawRow(json.dumps(row).encode()) for row in candidates if is_readable(row)]
    if raw_rows:
        assert validated_import(raw_rows, is_compiled=True) == validated_import(raw_rows, is_compiled=False)


def is_readable(row: Any) -> bool:
    try:
        return len(json.dumps(row)) < 4000
    except ValueError:
        return False


@pytest.mark.timeout(120 + EXAMPLES)
@MANY
@given(values=st.lists(st.lists(st.sampled_from(FIELD_VALUES), max_size=3).map(dict), min_size=1, max_size=ROWS))
def test_products_give_the_same_results_as_drf_alone(values: list[dict[str, Any]]) -> None:
    candidates = [{**product(f"T-{number % 4}"), **changed} for number, changed in enumerate(values)]

    compare_values(ProductSerializer, candidates)

    globals()["CURRENT"] = ProductSerializer
    raw_rows = [RawRow(json.dumps(row).encode()) for row in candidates]
    assert validated_import(raw_rows, is_compiled=True) == validated_import(raw_rows, is_compiled=False)


# --- plain values pass the fast checks


class NestedSerializer(Sample):
    name = serializers.CharField(max_length=5)
    until = serializers.DateField(allow_null=True)


class WideSerializer(Sample):
    """Has a field of every kind that has a fast check."""

    name = serializers.CharField(max_length=5, min_length=2)
    note = serializers.CharField(allow_blank=True, trim_whitespace=False, required=False)
    slug = serializers.SlugField(validators=[UniqueValidator(Category.objects.all())], required=False)
    code = serializers.RegexField("^[A-Z]+$", required=False)
    size = serializers.ChoiceField(["S", "M"], allow_blank=True, default="S")
    stock = serializers.IntegerField(min_value=0, max_value=9, allow_null=True, required=False)
    price = serializers.DecimalField(max_digits=5, decimal_places=2, min_value=Decimal("0.01"), required=False)
    shift = serializers.DecimalField(max_digits=5, decimal_places=0, required=False)
    is_new = serializers.BooleanField(default=True)
    since = serializers.DateField(required=False)
    category = serializers.SlugRelatedField(slug_field="slug", queryset=Category.objects.all(), required=False)
    maker = NestedSerializer(required=False, allow_null=True)
    parts: Any = serializers.ListSerializer(child=NestedSerializer(), required=False, allow_empty=False, max_length=2)


class ModelOfNineSerializer(OfProduct):
    """A typical serializer: only a model and a list of its fields."""

    class Meta:
        model = Product
        fields = ["sku", "name", "description", "price", "currency", "stock", "category", "weight_kg", "is_active"]


PLAIN_ROWS: list[dict[str, Any]] = [
    {"name": "Tent"},
    {"name": " Té "},
    {"name": "Tent", "note": ""},
    {"name": "Tent", "note": " \u00e9 "},
    {"name": "Tent", "slug": "a-b_C", "code": "ABC"},
    {"name": "Tent", "size": "M", "stock": 9},
    {"name": "Tent", "size": "", "stock": None},
    {"name": "Tent", "stock": "007"},
    {"name": "Tent", "price": "999.99", "shift": -12},
    {"name": "Tent", "price": 12.5, "shift": "-99999"},
    {"name": "Tent", "price": 7, "shift": 0},
    {"name": "Tent", "is_new": False, "since": "2024-02-29"},
    {"name": "Tent", "is_new": "False", "category": {"what": "ever"}},
    {"name": "Tent", "maker": {"name": "Ann", "until": None}},
    {"name": "Tent", "maker": None, "parts": [{"name": "Pole", "until": "2030-01-01"}]},
]


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=repr)
def test_plain_values_of_every_kind_pass_the_fast_checks(row: dict[str, Any]) -> None:
    assert compare_values(WideSerializer, [row]) == 1


@pytest.mark.parametrize(
    "changed",
    [
        *(
            {"name": "T"},
            {"name": "Tents!"},
            {"name": " "},
            {"name": None},
            {"name": 12},
            {"name": "Te\0"},
            {"note": "\ud800"},
        ),
        *(
            {"slug": "a b"},
            {"code": "abc"},
            {"size": "XL"},
            {"stock": 10},
            {"stock": -1},
            {"stock": True},
            {"stock": "²"},
            {"stock": "1.0"},
        ),
        *(
            {"price": "1000.00"},
            {"price": "0.001"},
            {"price": 0},
            {"price": "1e1"},
            {"shift": 100000.0},
            {"shift": "1.0"},
        ),
        *({"is_new": 1}, {"is_new": None}, {"since": "2023-02-29"}, {"since": "20240229"}, {"category": None}),
        *({"maker": []}, {"maker": {"name": "Ann"}}, {"parts": []}, {"parts": [None]}, {"parts": {}}),
        {"parts": [{"name": "Pole", "until": None}] * 3},
    ],
    ids=repr,
)
def test_values_that_are_not_certainly_valid_are_left_to_drf(changed: dict[str, Any]) -> None:
    assert compare_values(WideSerializer, [{"name": "Tent", **changed}]) == 0


@pytest.mark.parametrize("serializer_class", [ProductSerializer, ModelOfNineSerializer])
def test_a_valid_product_is_validated_without_calling_drf(
    serializer_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    serializer = stripped(serializer_class)
    compiled = compile_serializer(serializer, needed_values=["sku"])
    row = product(" T-1", weight_kg="1.250", is_active=False, stock=3)
    monkeypatch.setattr(serializers.Field, "run_validation", None)

    assert compiled
    assert compiled.are_certain([row])
    assert compiled.validate(row) == {"sku": "T-1"}


class OverridesValidation(Sample):
    name = serializers.CharField()

    def run_validation(self, data: Any = serializers.empty) -> Any:
        return super().run_validation(data)


class ChoosesFields(Sample):
    name = serializers.CharField()

    @property
    def fields(self) -> Any:
        return {"name": serializers.CharField()}


class SharesSource(Sample):
    name = serializers.CharField(required=False)
    title = serializers.CharField(source="name", required=False)


class ReachesInside(Sample):
    name = serializers.CharField(source="maker.name")


class AsksForDefaults(Sample):
    seen = serializers.CharField(read_only=True, default=own_default)


class KeepsItsSetter(Sample):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        vars(self)["set_value"] = lambda *_arguments: None


@pytest.mark.parametrize(
    "serializer_class",
    [OverridesValidation, ChoosesFields, SharesSource, ReachesInside, AsksForDefaults, KeepsItsSetter],
)
def test_a_serializer_with_unknown_behaviour_is_not_compiled(serializer_class: type[Any]) -> None:
    assert compile_serializer(stripped(serializer_class)) is None


@pytest.mark.parametrize(
    "field",
    [
        ShoutingField(),
        serializers.CharField(validators=[own_validator]),
        serializers.RegexField("x", validators=[RegexValidator("b", inverse_match=True)]),
        serializers.CharField(validators=[MinLengthValidator(lambda: 2)]),
        serializers.CharField(validators=[MaxValueValidator(5)]),
        serializers.DecimalField(5, 2, localize=True),
        serializers.DecimalField(None, 2),
        serializers.DecimalField(2, 2),
        serializers.DateField(input_formats=["%Y"]),
    ],
    ids=repr,
)
def test_a_field_with_unknown_behaviour_has_no_fast_check(field: Any) -> None:
    compiled = compile_serializer(stripped(type("One", (serializers.Serializer,), {"field": field})))

    assert compiled
    assert not compiled.has_only_fast_checks


def test_the_target_s_own_code_is_called_once_per_row_and_in_order() -> None:
    class Own(Sample):
        first = ShoutingField()
        name = serializers.CharField()
        second = serializers.IntegerField(validators=[own_validator])
        third = serializers.CharField(required=False)

        def validate_third(self, value: Any) -> Any:
            return validate_once(self, value)

    row = {"first": "x", "name": "Tent", "second": 5, "third": "y"}
    with recorded() as calls:
        assert compare_values(Own, [row, row, {**row, "name": ""}, {"first": "x", "name": "Tent", "second": 1}]) == 3
        CALLS.clear()
    serializer = stripped(Own)
    compiled = compile_serializer(serializer)
    assert compiled
    assert compiled.are_certain([row])
    with recorded() as calls:
        compiled.validate(row)
    assert calls == [("shout", "'x'"), ("validator", "5"), ("once", "'y'")]


def test_a_bug_in_a_fast_check_is_not_mistaken_for_an_exception_of_the_target() -> None:
    """Otherwise, such a bug would let every row pass."""
    validator = RowValidator(PRODUCTS, request())
    assert validator._compiled

    def raise_error(_value: Any) -> bool:
        raise LookupError("a bug")

    validator._compiled._fast_checks.insert(0, FieldCheck("sku", raise_error, False, False))

    with pytest.raises(LookupError, match="a bug"):
        validator.validate({0: product("T-1")})
