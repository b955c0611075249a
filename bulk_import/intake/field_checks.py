"""Fast checks for the values that many rows have in one field; see `compiled_serializer` for what a fast check is.

There is one function per kind of field. It reads the options of a DRF field once and returns the fast check, or None
if the field has an option or a validator that the fast check could not follow exactly.

A fast check takes a list of values, and returns True only if the DRF field accepts each of them. It returns False for
everything else, and if one of them is null or `ABSENT`. It never raises and has no side effects. One call for many
values takes a fraction of the time of many calls, because Python's own functions, such as `map`, then go through them.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.core import validators
from rest_framework import ISO_8601, serializers
from rest_framework.settings import api_settings
from rest_framework.validators import ProhibitSurrogateCharactersValidator

from bulk_import.intake.endpoint_rules import UncheckedField
from bulk_import.intake.row_columns import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable

    FastCheck = Callable[[list[Any]], bool]

ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

MAX_INTEGER_DIGITS = 18
"""Maximum number of digits of an integer that a fast check accepts. Every integer of this length fits into 64 bits, and
longer ones are rare."""

INTEGER_LIMIT = 10**MAX_INTEGER_DIGITS

FIELD_METHODS = frozenset(
    {"get_value", "run_validation", "validate_empty_values", "to_internal_value", "run_validators", "get_default"}
)
"""The methods that DRF calls to validate a field. If a field instance replaces one, only DRF can validate the field."""


@dataclasses.dataclass(slots=True)
class Limits:
    """The combined limits of all validators of one field."""

    min_length: int = 0
    max_length: int = sys.maxsize
    min_value: Decimal = Decimal("-Infinity")
    max_value: Decimal = Decimal("Infinity")
    searches: list[Callable[[str], Any]] = dataclasses.field(default_factory=list)  # each one must find a match

    @property
    def concern_numbers_only(self) -> bool:
        return (self.min_length, self.max_length, self.searches) == (0, sys.maxsize, [])

    @property
    def concern_text_only(self) -> bool:
        return not (self.min_value.is_finite() or self.max_value.is_finite())


def make_field_check(field: Any) -> FastCheck | None:
    """Return the fast check of a field that is not a serializer; None if only DRF can validate it."""
    make_check = MAKERS.get(type(field))
    if make_check is None or has_replaced_methods(field):
        return None
    limits = read_validators(field)
    return None if limits is None else make_check(field, limits)


def has_replaced_methods(field: Any) -> bool:
    """Return whether the field instance has its own version of a method that DRF calls to validate it."""
    return bool(FIELD_METHODS & vars(field).keys())


def read_validators(field: Any) -> Limits | None:
    """Return the combined limits of a field's validators; None if one of the validators is unknown."""
    limits = Limits()
    for validator in field.validators:
        kind = type(validator)
        limit: Any = getattr(validator, "limit_value", None)
        if kind in {validators.ProhibitNullCharactersValidator, ProhibitSurrogateCharactersValidator}:
            pass  # the fast check of a text always checks this
        elif kind is validators.RegexValidator and not validator.inverse_match:
            limits.searches.append(validator.regex.search)
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


def value_reader(field: Any) -> Callable[[Any], Any]:
    """Return the function that turns a value which passed the fast check into what DRF would return for it."""
    if MAKERS.get(type(field)) is _text_check:
        return str.strip if field.trim_whitespace else str
    read_value: Callable[[Any], Any] = field.to_internal_value
    return read_value


# --- one maker per kind of field


def _text_check(field: Any, limits: Limits) -> FastCheck | None:
    """Make the check of a CharField, or of a DRF subclass that only adds a pattern. Only strings pass it."""
    if not limits.concern_text_only:
        return None
    trims, allows_blank = field.trim_whitespace, field.allow_blank
    low, high, searches = limits.min_length, limits.max_length, limits.searches

    def are_valid_texts(values: list[Any]) -> bool:
        if not set(map(type, values)) <= {str}:
            return False
        texts = list(map(str.strip, values)) if trims else values
        lengths = set(map(len, texts))
        if 0 in lengths and not allows_blank:
            return False
        lengths.discard(0)  # DRF accepts a blank text without looking at its length
        if lengths and not (low <= min(lengths) and max(lengths) <= high):
            return False
        together = "".join(texts)
        return (
            "\0" not in together
            and _has_no_surrogates(together)
            and all(all(map(search, filter(None, texts))) for search in searches)
        )

    return are_valid_texts


def _has_no_surrogates(text: str) -> bool:
    for encoding in ("latin-1", "utf-8"):  # Latin-1 takes hardly any time, and many languages need no other characters
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            continue
        return True
    return False


def _choice_check(field: Any, limits: Limits) -> FastCheck | None:
    if limits != Limits():
        return None
    allowed = {*field.choice_strings_to_values, *([""] if field.allow_blank else [])}
    return lambda values: set(map(type, values)) <= {str} and allowed.issuperset(values)


def _integer_check(_field: Any, limits: Limits) -> FastCheck | None:
    """Make the check of an IntegerField. Integers and strings of digits pass it; a CSV contains only strings."""
    if not limits.concern_numbers_only:
        return None
    # `low` and `high` are valid values themselves. They are integers, because comparing a Decimal takes ten times as
    # long.
    low = _round_up(max(limits.min_value, Decimal(1 - INTEGER_LIMIT)))
    high = -_round_up(max(-limits.max_value, Decimal(1 - INTEGER_LIMIT)))

    def is_valid_integer(value: Any) -> bool:
        if type(value) is str and value.isascii() and value.isdigit() and len(value) <= MAX_INTEGER_DIGITS:
            value = int(value)
        return type(value) is int and low <= value <= high

    def are_valid_integers(values: list[Any]) -> bool:
        if set(map(type, values)) == {int}:
            return bool(low <= min(values) and max(values) <= high)
        return all(map(is_valid_integer, values))

    return are_valid_integers


def _round_up(number: Decimal) -> int:
    return int(number.to_integral_value("ROUND_CEILING"))


def _decimal_check(field: Any, limits: Limits) -> FastCheck | None:
    """Make the check of a DecimalField. Numbers pass it, and so do strings in plain notation such as "-12.50"."""
    if not limits.concern_numbers_only or field.localize:
        return None
    digits, places, whole_digits = field.max_digits, field.decimal_places, field.max_whole_digits
    if not type(digits) is type(places) is type(whole_digits) is int:
        return None
    if places < 0 or not 0 < whole_digits <= digits - places:
        return None
    low, high = limits.min_value, limits.max_value
    sign = "-?" if low < 0 else ""
    fraction = rf"(?:\.[0-9]{{1,{places}}})?" if places else ""
    are_decimals = re.compile(rf"(?:{sign}[0-9]{{1,{whole_digits}}}{fraction}\n)*").fullmatch  # one on each line
    needs_comparison = low > 0 or high.is_finite() or (low < 0 and low.is_finite())  # if not, the pattern is enough

    def are_valid_decimals(values: list[Any]) -> bool:
        texts = values
        if not set(map(type, texts)) <= {str}:
            texts = [str(value) if _is_plain_number(value) else value for value in values]  # as DRF does
            if not set(map(type, texts)) <= {str}:
                return False
        lines = "\n".join([*texts, ""])
        if lines.count("\n") != len(texts) or not are_decimals(lines):
            return False
        return not needs_comparison or all(low <= Decimal(text) <= high for text in texts)

    return are_valid_decimals


def _is_plain_number(value: Any) -> bool:
    kind = type(value)
    return kind is float or (kind is int and -INTEGER_LIMIT < value < INTEGER_LIMIT)


def _boolean_check(field: Any, limits: Limits) -> FastCheck | None:
    if limits != Limits():
        return None
    words = {word for word in field.TRUE_VALUES | field.FALSE_VALUES if type(word) is str}

    def are_valid_booleans(values: list[Any]) -> bool:
        kinds = set(map(type, values))
        if not kinds <= {bool, str}:
            return False
        return str not in kinds or all(type(value) is bool or value.lower() in words for value in values)

    return are_valid_booleans


def _date_check(field: Any, limits: Limits) -> FastCheck | None:
    formats = getattr(field, "input_formats", api_settings.DATE_INPUT_FORMATS)
    if limits != Limits() or not formats or formats[0].lower() != ISO_8601:
        return None
    return lambda values: all(map(_is_iso_date, values))


def _is_iso_date(value: Any) -> bool:
    if type(value) is not str or not ISO_DATE.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _unchecked_field_check(_field: Any, _limits: Limits) -> FastCheck:
    return lambda values: not (None in values or ABSENT in values)


MAKERS: dict[type, Callable[[Any, Limits], FastCheck | None]] = {
    serializers.BooleanField: _boolean_check,
    serializers.CharField: _text_check,
    serializers.ChoiceField: _choice_check,
    serializers.DateField: _date_check,
    serializers.DecimalField: _decimal_check,
    serializers.IntegerField: _integer_check,
    serializers.RegexField: _text_check,
    serializers.SlugField: _text_check,
    UncheckedField: _unchecked_field_check,
}
"""The maker for each class of field. Other subclasses have no maker, because they may behave differently."""
