"""Examines the monolith itself: settings, database, clock and secrets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.checks import ERROR, run_checks
from django.db import DatabaseError, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from bulk_import.conf import conf
from bulk_import.doctor.findings import compare_clocks, one_line
from bulk_import.models import ImportChunk, database
from bulk_import_wire.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CLOCK_OFFSET_SECONDS = 30
"""Largest accepted offset from the database's clock.

A smaller offset does no harm: import tokens are valid for an hour, and the database's clock measures leases.
"""

ISOLATION_LEVELS = {"read committed", "read uncommitted"}
"""Isolation levels of PostgreSQL in which each statement sees all earlier commits. A finish relies on this."""

FIX_POOLING = "Set pool_mode = transaction in the configuration of PgBouncer, because an import needs transactions."

MAX_UNSENT_SECONDS = 180
"""How long the message of a chunk may wait for the relay, which should run at least once a minute."""

MIN_DIFFERENT_CHARACTERS = 10
"""A secret with fewer different characters counts as weak. 32 random characters have about 25 different ones."""

MAX_SECRETS = 2
"""A rotation needs two secrets: the old one and the new one."""


def examine_settings() -> Iterator[Finding]:
    """Report what `manage.py check` finds in this app."""
    messages = [message for message in run_checks() if str(message.id).startswith("bulk_import.")]
    for message in messages:
        level = Level.ERROR if message.level >= ERROR else Level.WARNING
        yield Finding("settings", level, f"{message.msg} ({message.id})", str(message.hint or ""))
    if not messages:
        yield Finding("settings", Level.OK, "manage.py check found no problems.")


def examine_database() -> Iterator[Finding]:
    """Check that the database responds, that the tables are complete, and that its clock agrees with ours."""
    connection = connections[database()]
    try:
        yield from _examine_tables(connection)
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_TIMESTAMP")
            (now,) = cursor.fetchone()
        yield from _examine_isolation(connection)
    except DatabaseError as error:
        yield Finding(
            "database",
            Level.ERROR,
            f"The database does not respond: {one_line(error)}",
            FIX_POOLING if "statement pooling" in str(error) else "Correct DATABASES, or start the database server.",
        )
        return
    if isinstance(now, str):  # SQLite
        now = datetime.fromisoformat(now)
    now_in_utc = now if now.tzinfo else now.replace(tzinfo=UTC)
    yield compare_clocks("the database", now_in_utc, MAX_CLOCK_OFFSET_SECONDS)


def _examine_tables(connection: Any) -> Iterator[Finding]:
    executor: Any = MigrationExecutor(connection)
    leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "bulk_import"]
    if plan := executor.migration_plan(leaves):
        names = ", ".join(migration.name for migration, _ in plan if migration.app_label == "bulk_import")
        yield Finding("database", Level.ERROR, f"These migrations are not applied: {names}", "Run manage.py migrate.")
        return
    missing = []
    for model in apps.get_app_config("bulk_import").get_models():
        with connection.cursor() as cursor:
            existing = connection.introspection.get_constraints(cursor, model._meta.db_table)
        missing += [constraint.name for constraint in model._meta.constraints if constraint.name not in existing]
    if missing:
        yield Finding(
            "database",
            Level.ERROR,
            f"These constraints are missing, so rows can be created twice: {', '.join(missing)}",
            "Look for duplicate rows, then create the constraints again as in bulk_import/migrations.",
        )
    else:
        yield Finding("database", Level.OK, "All migrations are applied and all constraints exist.")


def examine_relay() -> Iterator[Finding]:
    """Report chunks that the relay should have sent already."""
    overdue = timezone.now() - timedelta(seconds=MAX_UNSENT_SECONDS)
    if count := ImportChunk.objects.unsent().filter(queued_at__lt=overdue).count():
        message = f"{count} chunks were not sent to the queue for more than {MAX_UNSENT_SECONDS} s."
        fix = "Run manage.py bulk_import_relay once a minute; on your machine, manage.py bulk_import_local does. If it "
        fix += "runs, correct the findings about the queue, or read its log."
        yield Finding("relay", Level.ERROR, message, fix)


def _examine_isolation(connection: Any) -> Iterator[Finding]:
    """Ask PostgreSQL for the isolation level, which the role or the database can set too."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        (level,) = cursor.fetchone()
    if level not in ISOLATION_LEVELS:
        yield Finding(
            "database",
            Level.ERROR,
            f"The isolation level is {level}. Reports do not see rows that were created while they waited.",
            "Use read committed: check OPTIONS in DATABASES, and default_transaction_isolation of the role, the "
            "database and the server.",
        )


def examine_secrets() -> Iterator[Finding]:
    """Check the worker secrets. No finding contains a secret."""
    secrets = conf().worker_secrets
    fix = "Generate a new one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    if not secrets:
        yield Finding("secret", Level.ERROR, "WORKER_SECRETS is empty, so no worker can sign in.", fix)
        return
    if any(len(set(secret)) < MIN_DIFFERENT_CHARACTERS for secret in secrets):
        yield Finding("secret", Level.ERROR, "A secret has so few different characters that it can be guessed.", fix)
    elif any(secret != secret.strip() or not secret.isprintable() or not secret.isascii() for secret in secrets):
        yield Finding("secret", Level.ERROR, "A secret has spaces or characters that an HTTP header cannot carry.", fix)
    elif len(set(secrets)) > MAX_SECRETS:
        yield Finding(
            "secret",
            Level.WARNING,
            f"The worker API accepts {len(secrets)} different secrets. A rotation needs only {MAX_SECRETS}.",
            "Remove the secrets that were replaced.",
        )
    else:
        yield Finding("secret", Level.OK, "The secret is set and strong enough.")
