"""The processes of a release work with the tables of the next one, so that a deployment needs no pause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddField, DeleteModel, RemoveField, RenameField, RenameModel

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_RELEASED: str | None = None
"""The newest migration of the latest release; None because there is no release yet."""

REMOVALS = (DeleteModel, RemoveField, RenameField, RenameModel)


def migrations() -> dict[str, Any]:
    found = MigrationLoader(None).disk_migrations
    return {name: migration for (app, name), migration in sorted(found.items()) if app == "bulk_import"}


def breaking_changes(migration: Any) -> Iterator[str]:
    """Yield the operations with which processes of the release before fail: its INSERTs do not name a new column."""
    for operation in migration.operations:
        is_required = isinstance(operation, AddField) and not (operation.field.null or operation.field.has_db_default())
        if is_required or isinstance(operation, REMOVALS):
            yield operation.describe()


def test_the_release_before_works_with_the_tables_of_this_one() -> None:
    newer = {name: found for name, found in migrations().items() if LAST_RELEASED and name > LAST_RELEASED}

    assert {name: changes for name, found in newer.items() if (changes := [*breaking_changes(found)])} == {}


def test_a_column_without_a_default_in_the_database_breaks_the_release_before() -> None:
    assert "Add field outcome to importedrow" in [*breaking_changes(migrations()["0010_modes_and_outcomes"])]
