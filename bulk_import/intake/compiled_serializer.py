"""A target's serializer, compiled: tests that may only say that a field is certainly valid. All else is DRF's to judge.

Judging a row, DRF calls some ten Python functions a field; a test is one, and knows no messages. Three rules keep every
verdict, message and value DRF's own:

- A test stands for a field whose class, methods and validators are exactly known (`type`, never `isinstance`).
  It says "certain" only for values that such a field accepts, and has no effects.
- If a test does not say so, DRF judges the whole row, and nothing has happened to the row before.
- Whatever else runs code (other fields, other validators, `validate_<field>` methods, callable defaults) runs in DRF,
  in the serializer's order, once a row.

Why the tests are Python and not msgspec or pydantic is told, with figures, in docs/performance.md.

It is assumed that a serializer's fields do not change from one row to the next.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from django.core import validators
from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import ISO_8601, serializers
from rest_framework.fields import SkipField, empty, get_error_detail
from rest_framework.settings import api_settings
from rest_framework.validators import ProhibitSurrogateCharactersValidator

from bulk_import.intake.endpoint_rules import LeftToEndpoint, accept

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Test = Callable[[Any], bool]

ABSENT = object()
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MAX_TESTED_DIGITS = 18
"""Of an integer; a longer one, which few databases could hold, is left to DRF."""
BEYOND_TESTED = 10**MAX_TESTED_DIGITS

FIELD_METHODS = frozenset(
    {"get_value", "run_validation", "validate_empty_values", "to_internal_value", "run_validators", "get_default"}
)
"""What judging a field calls. On an instance of its own, such a method may do anything."""

SERIALIZER_METHODS = FIELD_METHODS | {"set_value", "_writable_fields", "_read_only_defaults", "__getattribute__"}
SERIALIZER_PROPERTIES = frozenset({"fields", "validators", "root"})  # what they answered is kept on the instance
LIST_METHODS = FIELD_METHODS | {"run_child_validation", "validate"}


@dataclass(slots=True)
class Limits:
    """What the validators of a field ask for."""

    min_length: int = 0
    max_length: int = sys.maxsize
    min_value: Decimal = Decimal("-Infinity")
    max_value: Decimal = Decimal("Infinity")
    searches: list[Callable[[str], Any]] = field(default_factory=list)  # each must find something


class CompiledSerializer:
    """Judges rows like the serializer that it was compiled from. Use `compile_serializer` to get one."""

    def __init__(self, serializer: Any, tests: dict[str, Test], wanted: Collection[str]) -> None:
        writable = [part for part in serializer.fields.values() if not part.read_only]
        self._serializer = serializer
        self._tests = [
            (part.field_name, tests[part.field_name], part.allow_null, _may_be_absent(part))
            for part in writable
            if part.field_name in tests
        ]
        self._judged = [
            (part, _validate_method(part), _is_skipped_if_absent(part))
            for part in writable
            if part.field_name not in tests
        ]
        self._wanted = [
            (part.field_name, part.source, part.default, _value_reader(part))
            for part in writable
            if part.field_name in tests and part.field_name in wanted
        ]

    @property
    def is_only_tests(self) -> bool:
        """Whether `is_certain` says all that there is to say."""
        return not self._judged

    def is_certain(self, row: Any) -> bool:
        """Whether every tested field of a row is certainly valid."""
        if type(row) is not dict:
            return False
        get = row.get
        for name, test, allows_null, may_be_absent in self._tests:
            value = get(name, ABSENT)
            if test(value) or (allows_null and value is None) or (may_be_absent and value is ABSENT):
                continue
            return False
        return True

    def validate(self, row: dict[str, Any]) -> dict[str, Any]:
        """Judge the other fields of a certain row; returns values as the serializer would, at least the wanted ones.

        Raises serializers.ValidationError, and whatever the target's own code raises.
        """
        validated = self._judge(row) if self._judged else {}
        for name, source, default, read_value in self._wanted:
            value = row.get(name, ABSENT)
            if value is ABSENT:
                if default is not empty:
                    validated[source] = default
            else:
                validated[source] = None if value is None else read_value(value)
        return validated

    def _judge(self, row: dict[str, Any]) -> dict[str, Any]:
        """The rest of the fields, as in Serializer.to_internal_value."""
        validated: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for part, validate_method, is_skipped_if_absent in self._judged:
            if is_skipped_if_absent and part.field_name not in row:
                continue
            try:
                value = part.run_validation(part.get_value(row))
                if validate_method is not None:
                    value = validate_method(value)
            except serializers.ValidationError as error:
                errors[part.field_name] = error.detail
            except DjangoValidationError as error:
                errors[part.field_name] = get_error_detail(error)
            except SkipField:
                pass
            else:
                validated[part.source] = value
        if errors:
            raise serializers.ValidationError(errors)
        return validated


def compile_serializer(serializer: Any, wanted: Collection[str] = ()) -> CompiledSerializer | None:
    """Compile a serializer that `leave_database_to_endpoint` has stripped; None if that cannot be done exactly.

    `wanted` are the names of the fields whose values are needed.
    """
    if not _is_known(serializer):
        return None
    if serializer.root.partial or serializer.validators or vars(serializer).get("validate") is not accept:
        return None
    parts = list(serializer.fields.values())
    if any(part.read_only and callable(part.default) and part.default is not empty for part in parts):
        return None  # DRF asks for it with every row
    writable = [part for part in parts if not part.read_only]
    sources = {part.source for part in writable}
    if len(sources) < len(writable) or any(part.source == "*" or "." in part.source for part in writable):
        return None  # the value of one field may overwrite that of another, or stumble over it
    tests = {part.field_name: test for part in writable if (test := _compile_field(part))}
    return CompiledSerializer(serializer, tests, wanted)


def _compile_field(part: Any) -> Test | None:
    """The test of a field; None if DRF must judge it."""
    if _validate_method(part) is not None:
        return None
    if isinstance(part, serializers.Serializer):
        return _nested(part)
    make_test = TESTS.get(type(part))
    if make_test is None or FIELD_METHODS & vars(part).keys():
        return None
    limits = _read_validators(part)
    return None if limits is None else make_test(part, limits)


def _is_known(serializer: Any) -> bool:
    """Whether judging a row calls the methods of DRF's Serializer only, as far as they are not stripped."""
    if not isinstance(serializer, serializers.Serializer) or SERIALIZER_METHODS & vars(serializer).keys():
        return False
    names = SERIALIZER_METHODS | SERIALIZER_PROPERTIES
    return all(getattr_static(type(serializer), name) is getattr_static(serializers.Serializer, name) for name in names)


def _validate_method(part: Any) -> Any:
    """The serializer's `validate_<field>`, unless it is none or left to the endpoint."""
    method = getattr(part.parent, f"validate_{part.field_name}", None)
    return None if method is accept else method


def _value_reader(part: Any) -> Callable[[Any], Any]:
    """What DRF makes of a value that passed the field's test."""
    if TESTS.get(type(part)) is _text:
        return str.strip if part.trim_whitespace else str
    read_value: Callable[[Any], Any] = part.to_internal_value
    return read_value


def _is_skipped_if_absent(part: Any) -> bool:
    """Whether DRF does nothing about the field when it is absent: not even `validate_<field>` is called then."""
    is_known = type(part) in TESTS and not FIELD_METHODS & vars(part).keys()
    return is_known and not part.required and part.default is empty


def _may_be_absent(part: Any) -> bool:
    """Whether an absent field is valid, and nothing has to be called for it."""
    return not part.required and (part.default is empty or not callable(part.default))


def _read_validators(part: Any) -> Limits | None:
    """None if one of them is not known."""
    limits = Limits()
    for check in part.validators:
        kind = type(check)
        limit: Any = getattr(check, "limit_value", None)
        if kind in {validators.ProhibitNullCharactersValidator, ProhibitSurrogateCharactersValidator}:
            pass  # every test of a text asks for this
        elif kind is validators.RegexValidator and not check.inverse_match:
            limits.searches.append(check.regex.search)
        elif kind is validators.MinLengthValidator and type(limit) is int:
            limits.min_length = max(limits.min_length, limit)
        elif kind is validators.MaxLengthValidator and type(limit) is int:
            limits.max_length = min(limits.max_length, limit)
        elif kind is validators.MinValueValidator and _is_number(limit):
            limits.min_value = max(limits.min_value, Decimal(limit))
        elif kind is validators.MaxValueValidator and _is_number(limit):
            limits.max_value = min(limits.max_value, Decimal(limit))
        else:
            return None
    return limits


def _is_number(limit: Any) -> bool:
    return type(limit) is int or (type(limit) is Decimal and limit.is_finite())


# --- the tests; none of them takes null, or what stands for an absent value


def _text(part: Any, limits: Limits) -> Test | None:
    """A CharField, or one that adds only a pattern. Numbers, which it would take for text, are left to DRF."""
    if limits.min_value.is_finite() or limits.max_value.is_finite():
        return None
    trims, allows_blank = part.trim_whitespace, part.allow_blank
    low, high, searches = limits.min_length, limits.max_length, limits.searches

    def is_certain(value: Any) -> bool:
        if type(value) is not str:
            return False
        text = value.strip() if trims else value
        if not text:
            return bool(allows_blank)
        return (
            low <= len(text) <= high
            and "\0" not in text
            and (text.isascii() or _is_unicode(text))
            and (not searches or all(search(text) for search in searches))
        )

    return is_certain


def _is_unicode(text: str) -> bool:
    """Whether there is no surrogate in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _choice(part: Any, limits: Limits) -> Test | None:
    if limits != Limits():
        return None
    allowed = {*part.choice_strings_to_values, *([""] if part.allow_blank else [])}
    return lambda value: type(value) is str and value in allowed


def _integer(_part: Any, limits: Limits) -> Test | None:
    """An IntegerField: numbers, and texts of plain digits, as a CSV has them."""
    if (limits.min_length, limits.max_length, limits.searches) != (0, sys.maxsize, []):
        return None
    # Both ends belong to it. Compared as integers, because a Decimal takes ten times as long.
    low = _whole(max(limits.min_value, Decimal(1 - BEYOND_TESTED)))
    high = -_whole(max(-limits.max_value, Decimal(1 - BEYOND_TESTED)))

    def is_certain(value: Any) -> bool:
        if type(value) is str and value.isascii() and value.isdigit() and len(value) <= MAX_TESTED_DIGITS:
            value = int(value)
        return type(value) is int and low <= value <= high

    return is_certain


def _whole(number: Decimal) -> int:
    """The least integer that is not below the number."""
    return int(number.to_integral_value("ROUND_CEILING"))


def _decimal(part: Any, limits: Limits) -> Test | None:
    """A DecimalField: numbers, and texts in plain notation."""
    if (limits.min_length, limits.max_length, limits.searches) != (0, sys.maxsize, []) or part.localize:
        return None
    digits, places, whole = part.max_digits, part.decimal_places, part.max_whole_digits
    if not type(digits) is type(places) is type(whole) is int or places < 0 or not 0 < whole <= digits - places:
        return None
    low, high = limits.min_value, limits.max_value
    sign = "-?" if low < 0 else ""
    fraction = rf"(?:\.[0-9]{{1,{places}}})?" if places else ""
    is_short_enough = re.compile(rf"{sign}[0-9]{{1,{whole}}}{fraction}").fullmatch
    is_bounded = low > 0 or high.is_finite() or (low < 0 and low.is_finite())  # else the pattern says it all

    def is_certain(value: Any) -> bool:
        kind = type(value)
        if kind is float or (kind is int and -BEYOND_TESTED < value < BEYOND_TESTED):
            value = str(value)  # what DRF itself reads
        elif kind is not str:
            return False
        return is_short_enough(value) is not None and (not is_bounded or low <= Decimal(value) <= high)

    return is_certain


def _boolean(part: Any, limits: Limits) -> Test | None:
    if limits != Limits():
        return None
    words = {word for word in part.TRUE_VALUES | part.FALSE_VALUES if type(word) is str}
    return lambda value: value is True or value is False or (type(value) is str and value.lower() in words)


def _date(part: Any, limits: Limits) -> Test | None:
    formats = getattr(part, "input_formats", api_settings.DATE_INPUT_FORMATS)
    if limits != Limits() or not formats or formats[0].lower() != ISO_8601:
        return None
    return _is_iso_date


def _is_iso_date(value: Any) -> bool:
    if type(value) is not str or not ISO_DATE.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _nested(part: Any) -> Test | None:
    compiled = compile_serializer(part)
    if compiled is None or not compiled.is_only_tests:
        return None
    return compiled.is_certain


def _nested_list(part: Any, limits: Limits) -> Test | None:
    if limits != Limits() or LIST_METHODS & vars(part).keys() or not isinstance(part.child, serializers.Serializer):
        return None
    is_certain_child = _nested(part.child)
    if is_certain_child is None:
        return None
    low = part.min_length if part.min_length is not None else 0
    low = low if part.allow_empty else max(low, 1)
    high = part.max_length if part.max_length is not None else sys.maxsize
    return lambda value: type(value) is list and low <= len(value) <= high and all(map(is_certain_child, value))


def _left_to_endpoint(_part: Any, _limits: Limits) -> Test:
    return lambda value: value is not None and value is not ABSENT


TESTS: dict[type, Callable[[Any, Limits], Test | None]] = {
    serializers.BooleanField: _boolean,
    serializers.CharField: _text,
    serializers.ChoiceField: _choice,
    serializers.DateField: _date,
    serializers.DecimalField: _decimal,
    serializers.IntegerField: _integer,
    serializers.ListSerializer: _nested_list,
    serializers.RegexField: _text,
    serializers.SlugField: _text,
    LeftToEndpoint: _left_to_endpoint,
}
