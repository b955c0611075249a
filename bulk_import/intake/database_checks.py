"""Compares the values of many rows with the database at once. A dry run does this after the other checks.

Two kinds of rules can be checked this way: unique values and related objects. There is one query per field and
ROWS_PER_QUERY rows, on the serializer's own querysets. For example, 500 rows whose categories are `tents` or `boats`
need one query:

    SELECT slug FROM category WHERE slug IN ('tents', 'boats')

The query only finds the values that look wrong. DRF then decides about each of them, so the errors and messages are
those of DRF. All other rules that read the database stay with the create endpoint. `left_to_endpoint` lists them.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import FieldDoesNotExist
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import connections, transaction
from rest_framework.exceptions import ValidationError
from rest_framework.fields import get_error_detail
from rest_framework.relations import ManyRelatedField, PrimaryKeyRelatedField, SlugRelatedField
from rest_framework.validators import UniqueValidator

from bulk_import.batching import in_batches
from bulk_import.errors import OUT_OF_ORDER, flatten_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from bulk_import.intake.endpoint_rules import RemovedRule
    from bulk_import.intake.row_batch import CheckedRow

logger = logging.getLogger(__name__)

ROWS_PER_QUERY = 500
"""Rows whose values are looked up with one query. Every database accepts this number of parameters."""

INTEGER_LIMIT = 2**63
"""A query contains only integers below this limit, because SQLite refuses larger ones as parameters."""


COMPARABLE = (str, int, Decimal, UUID, date, time)
"""Types of the values that are compared. Values of other types are left to the create endpoint."""


class DatabaseChecks:
    """The checks of one serializer.

    `rules` are those that `skip_database_checks` has removed from it. `sources` maps the names of its writable fields
    to the keys of their validated values. `written_name` returns the name of a field, which may be a dotted path, as
    the user writes it. With `is_update`, unique values are not checked, because a value that exists may be that of the
    row's own object.
    """

    def __init__(
        self,
        rules: Iterable[RemovedRule],
        sources: dict[str, str],
        written_name: Callable[[str], str],
        *,
        is_update: bool,
    ) -> None:
        self._checks: list[Check] = []
        self._left: list[dict[str, Any]] = []
        for rule in rules:
            name = written_name(rule.path)
            check = make_check(rule, name, sources)
            if check is None or (is_update and check.refuses_existing):
                self._left.append({"field": name or None, "rule": rule.name})
            else:
                self._checks.append(check)

    @property
    def sources(self) -> set[str]:
        """The sources of the fields whose validated values the checks need."""
        return {check.source for check in self._checks}

    @property
    def fields(self) -> list[str]:
        """The names of the fields whose values were compared with the database."""
        return sorted({check.name for check in self._checks if check.is_exact})

    @property
    def left_to_endpoint(self) -> list[dict[str, Any]]:
        """The rules that only the create endpoint can check, each with its `field`, or None, and its `rule`."""
        return self._left + [{"field": check.name, "rule": check.rule} for check in self._checks if not check.is_exact]

    def apply(self, rows: Iterable[CheckedRow]) -> Iterator[CheckedRow]:
        """Yield all rows in their order, and add to each valid one the errors of the values that the database refuses.

        Raises an exception of OUT_OF_ORDER if the database cannot work now.
        """
        for batch in in_batches(rows, ROWS_PER_QUERY):
            valid = [row for row in batch if not (row.errors or row.is_skipped)]
            for check in self._checks:
                if check.is_exact:
                    check.add_errors(valid)
            yield from batch


@dataclass
class Check:
    """Compares the values of one field with one column of a queryset."""

    name: str
    """Name of the field, as the user writes it."""
    rule: str
    """Name of the rule in `left_to_endpoint`."""
    source: str
    """Key of the field's value in the validated values of a row."""
    lookup: str
    """Lookup with which the field compares a value, such as `slug`."""
    column: Any
    """The model field that is compared."""
    refuses_existing: bool
    """Whether a value looks wrong if the column contains it (unique values) or if it does not (related objects)."""
    queryset: Callable[[], Any]
    """Returns the queryset of the serializer's field or validator."""
    confirm: Callable[[Any], Any]
    """Lets DRF decide about one value. Raises a ValidationError if the value is wrong."""
    is_list: bool
    """Whether the field has a list of values, such as the primary keys of several objects."""
    is_exact: bool = True
    """False if the database turns out to compare values in another way than Python; then the endpoint has to decide."""

    def add_errors(self, rows: list[CheckedRow]) -> None:
        """Add the errors of the values of these rows to the rows."""
        values: set[Any] = set()
        for row in rows:
            value = row.validated.get(self.source)
            if type(value) is str:  # most values, so this comes first
                values.add(value)
            elif value is not None:
                values.update(self._values(value))
        values.discard("")
        try:
            errors = self._errors(values)
        except OUT_OF_ORDER:
            raise
        except Exception:  # noqa: BLE001 - the target's querysets may raise anything
            # The exception may contain values of the rows, so it is not logged.
            logger.warning("The values of the field %s could not be compared with the database", self.name)
            self.is_exact = False
            return
        for row in rows if errors else []:
            row.errors += next(
                (errors[value] for value in self._values(row.validated.get(self.source)) if value in errors), []
            )

    def _values(self, value: Any) -> list[Any]:
        """Return what is compared with the database in the value of a row. Null and empty texts are not."""
        values = value if self.is_list and isinstance(value, list) else [value]
        return [value for value in values if isinstance(value, COMPARABLE) and type(value) is not bool and value != ""]

    def _errors(self, values: Collection[Any]) -> dict[Any, list[dict[str, Any]]]:
        """Return the errors of each of these values that is wrong."""
        keys = {value: self._key(value) for value in values}
        found = self._find({key for key in keys.values() if key is not None})
        errors = {}
        for value, key in keys.items():
            if (key in found) is not self.refuses_existing:
                continue
            try:
                self.confirm(value)
            except (ValidationError, DjangoValidationError) as error:
                detail = error.detail if isinstance(error, ValidationError) else get_error_detail(error)
                errors[value] = list(flatten_errors({self.name: detail}))
            else:
                # For example, the database ignores the case of letters. (Or another user has just changed the data.)
                self.is_exact = self.refuses_existing
        return errors

    def _key(self, value: Any) -> Any:
        """Return the value as the column stores it; None if it cannot be stored. For example, 7 for the text "07"."""
        try:
            key = self.column.to_python(value)
        except (DjangoValidationError, ValueError):
            return None
        return None if isinstance(key, int) and abs(key) >= INTEGER_LIMIT else key

    def _find(self, keys: set[Any]) -> set[Any]:
        """Return those of the keys that the column contains."""
        return find_values(self.queryset(), self.lookup, keys) if keys else set()


def find_values(queryset: Any, lookup: str, values: set[Any]) -> set[Any]:
    """Return those of the values that an object of the queryset has. Raises whatever the query raises."""
    found = queryset.filter(**{f"{lookup}__in": values}).order_by()
    # In an open transaction, an error of PostgreSQL would make all later queries fail. The savepoint prevents this.
    in_transaction = connections[found.db].in_atomic_block
    with transaction.atomic(using=found.db) if in_transaction else nullcontext():
        return set(found.values_list(lookup, flat=True))


def make_check(rule: RemovedRule, name: str, sources: dict[str, str]) -> Check | None:
    """Return the check for a rule of the field with this name; None if only the create endpoint can check it.

    The rule must be DRF's own, of a field at the top of the serializer. No other field may have the same source.
    """
    field, validator = rule.field, rule.rule
    source = sources.get(rule.path)
    if field is None or source is None or list(sources.values()).count(source) > 1:
        return None
    lookup = find_lookup(field, validator)
    if lookup is None:
        return None
    relation = getattr(field, "child_relation", field)
    queryset = relation.get_queryset if validator is None else validator.queryset.all
    try:
        model = queryset().model
        column = model._meta.pk if lookup == "pk" else model._meta.get_field(lookup)
    except (FieldDoesNotExist, AttributeError):
        return None
    return Check(
        name=name,
        rule=rule.name,
        source=source,
        lookup=lookup,
        column=column,
        refuses_existing=validator is not None,
        queryset=queryset,
        is_list=relation is not field,
        confirm=relation.to_internal_value if validator is None else lambda value: validator(value, field),
    )


def find_lookup(field: Any, validator: Any) -> str | None:
    """Return the name of the column that a rule compares with; None if the rule is not one of DRF's own."""
    if validator is not None:
        is_known = type(validator) is UniqueValidator and validator.lookup == "exact"
        return field.source if is_known else None
    if isinstance(field, ManyRelatedField):
        if type(field).to_internal_value is not ManyRelatedField.to_internal_value:
            return None
        field = field.child_relation
    reader = getattr(type(field), "to_internal_value", None)
    if reader is PrimaryKeyRelatedField.to_internal_value and field.pk_field is None:
        return "pk"
    return field.slug_field if reader is SlugRelatedField.to_internal_value else None
