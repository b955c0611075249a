"""Compiles a serializer to fast checks, so that most rows of an upload are validated without calling DRF.

DRF calls about ten Python functions to validate one field. A fast check is a single function per field, made once per
request, that decides one question: are the values that these rows have in this field certainly valid? Take this
serializer:

    class ProductSerializer(serializers.Serializer):
        sku = serializers.CharField(max_length=64)
        stock = serializers.IntegerField(min_value=0)
        photo = PhotoField()  # a field class of the shop

Its fast checks amount to this, for each value:

    sku    type(value) is str and 0 < len(value.strip()) <= 64 and the text contains no NUL character
    stock  type(value) is int and 0 <= value < 10**18
    photo  has no fast check, because its class is not one of DRF's own

This is what happens to three different rows:

    {"sku": "A-1", "stock": 3, "photo": "a.jpg"}     Both fast checks pass. DRF validates only `photo`.
    {"sku": "A-1", "stock": -1, "photo": "a.jpg"}    A fast check does not pass. DRF validates the whole row and writes
                                                     the error message.
    {"sku": "A-1", "stock": 3.0, "photo": "a.jpg"}   A fast check does not pass. DRF validates the whole row and accepts
                                                     it, because it turns 3.0 into 3.

A check first looks at the values of many rows together. If it does not pass, it looks at each value alone, so an
unusual row does not slow down the rows around it.

So a fast check that does not pass does not mean that the row is invalid. It means that DRF must decide. Three rules
make sure that errors, messages and values are always exactly those that DRF alone would produce:

- A field gets a fast check only if its class, its methods and its validators are exactly known. This is why the code
  compares `type(field)` and does not use `isinstance`.
- If any fast check of a row does not pass, DRF validates the whole row from the beginning. Nothing has happened
  to the row before, because fast checks have no side effects.
- Code that we do not know (other field classes, other validators, `validate_<field>` methods, callable defaults) is
  always run by DRF, in the serializer's order and once per row.

The fields of a serializer must not change from one row to the next. docs/performance.md explains, with figures, why
the fast checks are Python and not msgspec or pydantic.
"""

from __future__ import annotations

import sys
from inspect import getattr_static
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers
from rest_framework.fields import SkipField, empty, get_error_detail

from bulk_import.intake.endpoint_rules import return_unchanged
from bulk_import.intake.field_checks import (
    FIELD_METHODS,
    MAKERS,
    Limits,
    has_replaced_methods,
    make_field_check,
    read_validators,
    value_reader,
)
from bulk_import.intake.row_columns import ABSENT, Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bulk_import.intake.field_checks import FastCheck

SERIALIZER_METHODS = FIELD_METHODS | {"set_value", "_writable_fields", "_read_only_defaults", "__getattribute__"}
"""The methods of a serializer that DRF calls to validate a row."""

SERIALIZER_PROPERTIES = frozenset({"fields", "validators", "root"})
"""The properties of a serializer that DRF reads to validate a row. An instance may cache their values, so only the
class is examined."""

LIST_METHODS = FIELD_METHODS | {"run_child_validation", "validate"}
"""The methods of a ListSerializer that DRF calls to validate a list."""


class FieldCheck(NamedTuple):
    """The fast check of one field, with what the field accepts instead of a value."""

    name: str
    are_valid: FastCheck
    allows_null: bool
    may_be_absent: bool

    def passes(self, values: list[Any]) -> bool:
        """Return whether each of these values of the field is certainly valid."""
        if self.allows_null and None in values:
            values = [value for value in values if value is not None]
        if self.may_be_absent and ABSENT in values:
            values = [value for value in values if value is not ABSENT]
        return self.are_valid(values)


class CompiledSerializer:
    """Validates rows exactly like the serializer that it was made from. Use `compile_serializer` to make one.

    Call `certain(rows, columns)` first. For each row that it returns, call `validate(row)`. For the other rows, call
    the `run_validation(row)` of the original serializer instead.
    """

    def __init__(self, serializer: Any, fast_checks: dict[str, FastCheck], needed_values: Collection[str]) -> None:
        self._is_partial = serializer.root.partial  # then DRF skips every absent field
        writable = [field for field in serializer.fields.values() if not field.read_only]
        with_check = [field for field in writable if field.field_name in fast_checks]
        self._fast_checks = [
            FieldCheck(field.field_name, fast_checks[field.field_name], field.allow_null, _may_be_absent(field))
            for field in with_check
        ]
        self._drf_fields = [
            (field, _validate_method(field), _is_skipped_if_absent(field))
            for field in writable
            if field.field_name not in fast_checks
        ]
        self._needed_values = [
            (field.field_name, field.source, field.default, value_reader(field))
            for field in with_check
            if field.field_name in needed_values
        ]

    @property
    def has_only_fast_checks(self) -> bool:
        """Whether every field has a fast check, so that DRF has nothing to validate in a row that passes them."""
        return not self._drf_fields

    def leaves_nothing_to_drf(self, names: Collection[str]) -> bool:
        """Return whether DRF would do nothing in rows with these fields for the fields without a fast check."""
        return all(
            is_skipped_if_absent and field.field_name not in names
            for field, _validate_method, is_skipped_if_absent in self._drf_fields
        )

    def are_certain(self, rows: list[Any]) -> bool:
        """Return whether, in each of the rows, every field that has a fast check is certainly valid."""
        if not set(map(type, rows)) <= {dict}:
            return False
        columns = Columns(rows)
        return all(check.passes(columns[check.name]) for check in self._fast_checks)

    def certain(self, rows: dict[int, dict[str, Any]], columns: Columns) -> dict[int, dict[str, Any]]:
        """Return those of the rows, with their keys, in which every field that has a fast check is certainly valid.

        `columns` are those of the rows.
        """
        for check in self._fast_checks:
            if check.may_be_absent and check.name not in columns.names:
                continue
            if not check.passes(values := columns[check.name]):
                are_certain = [check.passes([value]) for value in values]
                rows = dict(compress(rows.items(), are_certain))
                columns = Columns(list(rows.values()))
        return rows

    def validate(self, row: dict[str, Any]) -> dict[str, Any]:
        """Validate the remaining fields of a row that passes the fast checks.

        Returns the validated values of these fields and of the needed fields, as the serializer would return them.
        Raises serializers.ValidationError, and whatever the target's own code raises.
        """
        validated = self._validate_with_drf(row) if self._drf_fields else {}
        for name, source, default, read_value in self._needed_values:
            value = row.get(name, ABSENT)
            if value is ABSENT:
                if default is not empty and not self._is_partial:
                    validated[source] = default
            else:
                validated[source] = None if value is None else read_value(value)
        return validated

    def needed_columns(self, columns: Columns) -> dict[str, list[Any]]:
        """Return the validated values that rows which pass the fast checks have in the needed fields, by source.

        The value of an absent field is its default, or None if it has none. `validate` returns the same for each row.
        """
        needed = {}
        for name, source, default, read_value in self._needed_values:
            absent = None if default is empty or self._is_partial else default
            values = columns[name]
            if None in values or ABSENT in values:
                needed[source] = [
                    absent if value is ABSENT else None if value is None else read_value(value) for value in values
                ]
            else:
                needed[source] = list(map(read_value, values))
        return needed

    def _validate_with_drf(self, row: dict[str, Any]) -> dict[str, Any]:
        """Validate the fields without a fast check, as DRF's `Serializer.to_internal_value` does."""
        validated: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for field, validate_method, is_skipped_if_absent in self._drf_fields:
            if is_skipped_if_absent and field.field_name not in row:
                continue
            try:
                value = field.run_validation(field.get_value(row))
                if validate_method is not None:
                    value = validate_method(value)
            except serializers.ValidationError as error:
                errors[field.field_name] = error.detail
            except DjangoValidationError as error:
                errors[field.field_name] = get_error_detail(error)
            except SkipField:
                pass
            else:
                validated[field.source] = value
        if errors:
            raise serializers.ValidationError(errors)
        return validated


def compile_serializer(serializer: Any, needed_values: Collection[str] = ()) -> CompiledSerializer | None:
    """Compile a serializer to fast checks. Call `skip_database_checks` on the serializer first.

    `needed_values` are the names of the fields whose validated values the caller needs. Returns None if the
    serializer is too unusual to give exactly the same results; then DRF has to validate every row.
    """
    if not _validates_like_drf(serializer):
        return None
    is_stripped = not serializer.validators and vars(serializer).get("validate") is return_unchanged
    if not is_stripped:
        return None
    fields = list(serializer.fields.values())
    if any(field.read_only and callable(field.default) and field.default is not empty for field in fields):
        return None  # DRF calls such a default for every row
    writable = [field for field in fields if not field.read_only]
    sources = {field.source for field in writable}
    if len(sources) < len(writable) or any(field.source == "*" or "." in field.source for field in writable):
        return None  # the value of one field could overwrite the value of another one
    fast_checks = {field.field_name: check for field in writable if (check := _make_fast_check(field))}
    return CompiledSerializer(serializer, fast_checks, needed_values)


def _validates_like_drf(serializer: Any) -> bool:
    """Return whether validating a row calls only the methods of DRF's own Serializer class."""
    if not isinstance(serializer, serializers.Serializer) or SERIALIZER_METHODS & vars(serializer).keys():
        return False
    names = SERIALIZER_METHODS | SERIALIZER_PROPERTIES
    return all(getattr_static(type(serializer), name) is getattr_static(serializers.Serializer, name) for name in names)


def _make_fast_check(field: Any) -> FastCheck | None:
    """Return the fast check of a field; None if only DRF can validate it."""
    if _validate_method(field) is not None:
        return None
    if isinstance(field, serializers.Serializer):
        return _nested_check(field)
    if type(field) is serializers.ListSerializer:
        return _list_check(field)
    return make_field_check(field)


def _nested_check(serializer: Any) -> FastCheck | None:
    compiled = compile_serializer(serializer)
    if compiled is None or not compiled.has_only_fast_checks:
        return None
    return compiled.are_certain


def _list_check(field: Any) -> FastCheck | None:
    if LIST_METHODS & vars(field).keys() or read_validators(field) != Limits():
        return None
    passes_child = _nested_check(field.child) if isinstance(field.child, serializers.Serializer) else None
    if passes_child is None:
        return None
    low = field.min_length if field.min_length is not None else 0
    low = low if field.allow_empty else max(low, 1)
    high = field.max_length if field.max_length is not None else sys.maxsize

    def are_valid_lists(values: list[Any]) -> bool:
        are_lists = all(type(value) is list and low <= len(value) <= high for value in values)
        return are_lists and passes_child(list(chain.from_iterable(values)))

    return are_valid_lists


def _validate_method(field: Any) -> Callable[[Any], Any] | None:
    """Return the serializer's `validate_<field>` method; None if it has none, or if only the endpoint runs it."""
    method = getattr(field.parent, f"validate_{field.field_name}", None)
    return None if method is return_unchanged else method


def _is_skipped_if_absent(field: Any) -> bool:
    """Return whether DRF does nothing for the field if it is absent, not even call `validate_<field>`."""
    is_known = type(field) in MAKERS or type(field) is serializers.ListSerializer
    if not is_known or has_replaced_methods(field):
        return False
    return field.root.partial or (not field.required and field.default is empty)


def _may_be_absent(field: Any) -> bool:
    """Return whether an absent field is valid without running any code of the target."""
    return field.root.partial or (not field.required and (field.default is empty or not callable(field.default)))
