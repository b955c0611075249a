"""The side of the monolith: settings, database, clock and secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.checks import ERROR, run_checks
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from bulk_import.conf import conf
from bulk_import.doctor.findings import Finding, Level, one_line, skew
from bulk_import.models import database

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SKEW_SECONDS = 30  # an import token is good for an hour, a lease is on one clock only
MIN_DIFFERENT_CHARACTERS = 10  # of a secret; 32 random characters have some 25
MAX_SECRETS = 2  # the new one and the old one


def examine_settings() -> Iterator[Finding]:
    """What `manage.py check` says of this app."""
    messages = [message for message in run_checks() if str(message.id).startswith("bulk_import.")]
    for message in messages:
        level = Level.ERROR if message.level >= ERROR else Level.WARNING
        yield Finding("settings", level, f"{message.msg} ({message.id})", str(message.hint or ""))
    if not messages:
        yield Finding("settings", Level.OK, "manage.py check has nothing to say.")


def examine_database() -> Iterator[Finding]:
    connection = connections[database()]
    try:
        yield from _examine_tables(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_TIMESTAMP")
            (now,) = cursor.fetchone()
    except DatabaseError as error:
        yield Finding("database", Level.ERROR, f"It does not answer: {one_line(error)}", "Mend DATABASES.")
        return
    if isinstance(now, str):  # SQLite
        now = datetime.fromisoformat(now)
    yield skew("database", now if now.tzinfo else now.replace(tzinfo=UTC), MAX_SKEW_SECONDS)


def _examine_tables(connection: Any) -> Iterator[Finding]:
    executor: Any = MigrationExecutor(connection)
    leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "bulk_import"]
    if plan := executor.migration_plan(leaves):
        names = ", ".join(migration.name for migration, _ in plan if migration.app_label == "bulk_import")
        yield Finding("database", Level.ERROR, f"Migrations are not applied: {names}", "Run manage.py migrate.")
        return
    missing = []
    for model in apps.get_app_config("bulk_import").get_models():
        with connection.cursor() as cursor:
            there = connection.introspection.get_constraints(cursor, model._meta.db_table)
        missing += [c.name for c in model._meta.constraints if c.name not in there]
    if missing:
        yield Finding(
            "database",
            Level.ERROR,
            f"Constraints are missing, without which rows can be doubled: {', '.join(missing)}",
            "Somebody dropped them. Look for doubled rows, then make them again as in bulk_import/migrations.",
        )
    else:
        yield Finding("database", Level.OK, "All migrations are applied, all constraints are there.")


def examine_secrets() -> Iterator[Finding]:
    """By their looks only, and never with their text."""
    secrets = conf().worker_secrets
    mend = "Make another: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    if not secrets:
        yield Finding("secret", Level.ERROR, "There is none, so no worker gets in.", mend)
        return
    if any(len(set(secret)) < MIN_DIFFERENT_CHARACTERS for secret in secrets):
        yield Finding("secret", Level.ERROR, "One has so few different characters that it can be guessed.", mend)
    elif any(secret != secret.strip() or not secret.isprintable() or not secret.isascii() for secret in secrets):
        yield Finding("secret", Level.ERROR, "One has spaces or other characters that no header can carry.", mend)
    elif len(set(secrets)) > MAX_SECRETS:
        yield Finding(
            "secret", Level.WARNING, f"{len(secrets)} of them open the worker API.", "Remove those that were replaced."
        )
    else:
        yield Finding("secret", Level.OK, "It is set, and no guess.")
