"""System checks of the entries `detail_url`, `lookup` and `aliases` of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage, Error

from bulk_import.detail_endpoint import DetailEndpoint, NoDetailEndpoint
from bulk_import.intake.spreadsheets.target_fields import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import.conf import Target


def check_detail(target: Target) -> Iterator[CheckMessage]:
    """Yield an error if the URL or the field does not exist, or does not identify one object."""
    if target.detail_url:
        try:
            endpoint = DetailEndpoint.find(target.detail_url, target.create_kwargs)
            problem = "" if endpoint.allows_changes else f"The view of {target.detail_url!r} does not allow PATCH."
        except NoDetailEndpoint as error:
            problem = str(error)
        if problem:
            yield Error(
                f"The detail_url of target {target.name!r} cannot be used: {problem}",
                hint="Use the URL name of the endpoint that changes one object by PATCH.",
                id="bulk_import.E030",
            )
    if target.lookup and (problem := _lookup_problem(target)):
        yield Error(
            f"The lookup {target.lookup!r} of target {target.name!r} cannot be used: {problem}",
            hint="Use a field of the serializer that identifies one object, such as a SKU. It must be unique in the "
            "database.",
            id="bulk_import.E031",
        )


def _lookup_problem(target: Target) -> str:
    """Return why the lookup cannot be used; "" if it can."""
    try:
        field: Any = target.serializer_class().fields.get(target.lookup)
    except Exception:  # noqa: BLE001 - the fields of the target's serializer may depend on the request
        return ""
    if field is None or field.read_only:
        return "it is not a field of the serializer that a row can have."
    model = getattr(getattr(target.serializer_class, "Meta", None), "model", None)
    if model is None:
        return "the serializer has no model, so we cannot tell whether the field is unique."
    column = next((column for column in model._meta.concrete_fields if column.name == field.source), None)
    if column is None or column.is_relation:
        return f"{field.source!r} is not a plain field of the model {model.__name__}."
    constraints = [tuple(constraint.fields) for constraint in model._meta.total_unique_constraints]
    if column.unique or (column.name,) in constraints:
        return ""
    return f"{model.__name__}.{column.name} is not unique."


def check_aliases(target: Target) -> Iterator[CheckMessage]:
    """Yield an error for each alias that can never be recognised, or that belongs to no field."""
    try:
        serializer = target.serializer_class()
        names = {name for name, field in serializer.fields.items() if not field.read_only}
    except Exception:  # noqa: BLE001 - the fields of the target's serializer may depend on the request
        return
    fields_by_alias: dict[str, set[str]] = {}
    for field, aliases in target.aliases.items():
        if field not in names:
            yield _alias_error(target, f"{field!r} is not a field of the serializer that a row can have.")
        for alias in aliases:
            fields_by_alias.setdefault(normalise(alias), set()).add(field)
    names_by_key = {normalise(name): name for name in names}
    for alias, fields in fields_by_alias.items():
        if len(fields) > 1:
            yield _alias_error(target, f"{alias!r} is an alias of several fields: {', '.join(sorted(fields))}.")
        elif (name := names_by_key.get(alias)) and name not in fields:
            yield _alias_error(target, f"{alias!r} is an alias of {next(iter(fields))!r} and the name of {name!r}.")


def _alias_error(target: Target, problem: str) -> CheckMessage:
    return Error(
        f"The aliases of target {target.name!r} cannot be used: {problem}",
        hint="Give each field names of its own, which differ in more than case, accents, blanks and punctuation.",
        id="bulk_import.E032",
    )
