"""Rows against the target's own serializer: shape and field rules, before anything is stored.

What needs the database (unique fields, related objects, rules over several fields) is left to the create
endpoint, which judges every row again anyway: a row is refused here only if it is certain to be refused there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import serializers
from rest_framework.relations import ManyRelatedField, RelatedField
from rest_framework.settings import api_settings

from bulk_import.conf import conf
from bulk_import.exceptions import InvalidRows
from bulk_import.parsing import RowError, compact, parse_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target

logger = logging.getLogger(__name__)


def validate_rows(target: Target, rows: list[bytes], request: Request) -> list[bytes]:
    """The rows, compact, in order. Raises InvalidRows, which lists some errors and counts all."""
    limits = conf()
    validator = RowValidator(target, request)
    lines: list[bytes] = []
    errors: list[dict[str, Any]] = []
    invalid_rows = error_count = 0
    for index, raw in enumerate(rows):
        try:
            row_errors = validator.errors(parse_row(raw, limits))
        except RowError as error:
            row_errors = [{"field": None, "code": error.code, "message": error.message}]
        if row_errors:
            invalid_rows += 1
            error_count += len(row_errors)
            space = limits.max_listed_errors - len(errors)
            errors += [{"index": index, **error} for error in row_errors[:space]]
        else:
            lines.append(compact(raw))
    if invalid_rows:
        message = ngettext(
            "%(invalid)d of %(rows)d rows is not valid, so nothing was imported. Mend it and send all again.",
            "%(invalid)d of %(rows)d rows are not valid, so nothing was imported. Mend them and send all again.",
            invalid_rows,
        )
        message %= {"invalid": invalid_rows, "rows": len(rows)}
        raise InvalidRows(message, errors=errors, error_count=error_count, invalid_rows=invalid_rows)
    return lines


class RowValidator:
    """Judges one row after the other with a single serializer instance."""

    def __init__(self, target: Target, request: Request) -> None:
        self.serializer = target.serializer_class(context={"request": request, "view": target.create_view()})
        leave_database_to_endpoint(self.serializer)

    def errors(self, row: Any) -> list[dict[str, Any]]:
        """What the target's serializer has against the row: field, code and message; [] when nothing."""
        try:
            self.serializer.run_validation(row)
        except serializers.ValidationError as error:
            return list(flatten(error.detail))
        except Exception:
            # The target's own code stumbled: that is no verdict. The create endpoint will give one.
            logger.exception("The serializer %s raised on a row", type(self.serializer).__name__)
        return []


class LeftToEndpoint(serializers.Field):  # type: ignore[type-arg] # generic in the stubs only
    """Stands in for a related field: any value is accepted, the create endpoint looks it up."""

    def to_internal_value(self, data: Any) -> Any:
        return data


def leave_database_to_endpoint(serializer: Any) -> None:
    """Strip a serializer, in place, of every rule that reads the database or spans several fields."""
    if isinstance(serializer, serializers.ListSerializer):
        leave_database_to_endpoint(serializer.child)
        return
    serializer.validators = []
    serializer.validate = _accept
    for name, field in list(serializer.fields.items()):
        if field.read_only:
            continue
        if isinstance(field, RelatedField | ManyRelatedField):
            serializer.fields[name] = LeftToEndpoint(required=field.required, allow_null=field.allow_null)
            setattr(serializer, f"validate_{name}", _accept)
            continue
        if isinstance(field, serializers.BaseSerializer):
            leave_database_to_endpoint(field)
        field.validators = [check for check in field.validators if not hasattr(check, "queryset")]


def flatten(detail: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The leaves of a DRF error detail; the field of a nested one is a dotted path."""
    if isinstance(detail, dict):
        for key, part in detail.items():
            own = "" if key == api_settings.NON_FIELD_ERRORS_KEY else str(key)
            yield from flatten(part, ".".join(filter(None, (path, own))))
    elif isinstance(detail, list):
        for place, part in enumerate(detail):
            nested = isinstance(part, dict | list)
            yield from flatten(part, f"{path}.{place}" if nested else path)
    else:
        code = getattr(detail, "code", "invalid")
        yield {"field": path or None, "code": code, "message": str(detail) or _("Invalid value.")}


def _accept(value: Any) -> Any:
    return value
