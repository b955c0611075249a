"""Executes one run: from the seed to the findings. Import it only in a process that simulates, see `__main__`."""

from __future__ import annotations

import gc
import logging
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation import surroundings, virtual_time

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.simulation.settings"
surroundings.install()

import django

django.setup()

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from bulk_import.middleware import ImportedRowMiddleware
from bulk_import.models import circuit_breaker
from bulk_import.shop_load import ShopLoad
from products.models import Category, Product
from tests.simulation import (  # noqa: F401 - some of them only register the faults and checks
    checks,
    checks_of_objects,
    endpoint,
    event_loop,
    faster_django,
    faults_of_objects,
    faults_of_people,
    faults_of_requests,
    faults_of_services,
    prepared_queries,
    windows,
    writes,
)
from tests.simulation.plan import USERS, Plan
from tests.simulation.settings import BULK_IMPORT
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.simulation.checks import Finding

timezone.now = virtual_time.now_of_django
event_loop.install()
faster_django.install()
prepared_queries.install()
circuit_breaker.MIN_ROWS = 2  # a job of the simulation has fewer rows than the circuit breaker wants to see

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name = 'sqlite_sequence'"
"""Query for all tables. The last one has the last ID of each other table."""

PARTIAL_INDEXES = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE 'CREATE INDEX%WHERE%'"
"""Query for the indexes of some rows of a table that check nothing. The tables are tiny, and SQLite plans a statement
anew in each execution if its parameters decide whether it can use such an index."""

RUNS_PER_FULL_COLLECTION = 500
"""Runs between two garbage collections that look at all objects. The others look only at those of the last run."""

WARM_UP_SEEDS = range(-6, 0)
"""Seeds that are executed first. Modules that are imported during a run could draw from its random numbers."""


@dataclass
class Result:
    """The result of one run."""

    plan: Plan
    findings: list[Finding] = field(default_factory=list)
    trace_hash: str = ""
    calls: int = 0

    @property
    def rows(self) -> int:
        return sum(len(job.rows) for job in self.plan.jobs)

    @property
    def faults(self) -> int:
        """The number of faults that had an effect."""
        return sum(fault.hits > 0 for fault in self.plan.faults)


class Simulator:
    """Executes runs one after the other, each with a fresh database."""

    def __init__(self) -> None:
        self._runs = 0
        self._prepare_database()
        for seed in WARM_UP_SEEDS:
            self.run(Plan.of_seed(seed))
        gc.disable()

    def _prepare_database(self) -> None:
        """Create the tables and the users, and keep a copy of all rows for each run.

        No SKU or slug is unique in the database, because that would hide that an object is created twice.
        """
        call_command("migrate", verbosity=0, run_syncdb=True)
        # The app requires a lookup field that is unique. Only the model says so.
        setattr(Category._meta.get_field("name"), "_unique", True)  # noqa: B010 - django-stubs do not know the attribute
        for model, name in ((Product, "sku"), (Category, "slug")):
            old: Any = model._meta.get_field(name)
            new = old.clone()
            new._unique = False
            new.set_attributes_from_name(name)
            with connection.schema_editor() as editor:
                editor.alter_field(model, old, new)
        for name in (*USERS, "staff"):
            # The permissions of a superuser need no query, which makes each call faster.
            User.objects.create(username=name, email=f"{name}@shop.example", is_staff=True, is_superuser=True)
        Category.objects.create(slug="tents", name="tents")
        connection.connection.executescript(windows.TRIGGERS + writes.TRIGGERS)
        read = connection.connection.execute
        for (name,) in read(PARTIAL_INDEXES).fetchall():
            read(f'DROP INDEX "{name}"')
        self._rows = {name: read(f'SELECT * FROM "{name}"').fetchall() for (name,) in read(TABLES).fetchall()}  # noqa: S608 - constants

    def run(self, plan: Plan, keep: Collection[int] | None = None, *, verbose: bool = False) -> Result:
        """Execute a run with the faults at these positions of the plan, or with all of them."""
        if keep is not None:
            plan.faults = [plan.faults[place] for place in keep]
        logging.disable(logging.NOTSET if verbose else logging.CRITICAL)
        self._reset(plan)
        # A signal about the change would let the app check the configuration in each run.
        settings.BULK_IMPORT = {
            **BULK_IMPORT,
            "TARGETS": {
                name: {**target, "batch_rows": plan.batch_rows} for name, target in BULK_IMPORT["TARGETS"].items()
            },
            "LEASE_SECONDS": plan.lease_seconds,
            "CONCURRENCY": plan.concurrency,
            "CHUNK_ROWS": plan.chunk_rows,
            "CHUNKS_IN_FLIGHT": plan.chunks_in_flight,
            "MAX_FAILED_SHARE": plan.max_failed_share,
        }
        result = self._execute(plan, verbose=verbose)
        self._runs += 1
        if self._runs % RUNS_PER_FULL_COLLECTION == 0:
            gc.unfreeze()
        gc.collect()  # none happens during a run, so that each run is repeatable
        gc.freeze()  # most of what is left stays, such as prepared statements
        return result

    def _reset(self, plan: Plan) -> None:
        virtual_time.clock.now = 0.0
        random.seed(f"process {plan.seed}")
        self._reset_database()
        insert = "INSERT INTO products_category (name, slug, is_open) VALUES (?, ?, 1)"
        connection.connection.executemany(insert, plan.objects.items())
        connection.connection.execute("DELETE FROM simulation_write")
        ContentType.objects.clear_cache()
        cache.clear()

    def _reset_database(self) -> None:
        """Give each table the rows that it had before the first run. The prepared statements of SQLite stay valid."""
        database = connection.connection
        database.execute("BEGIN")
        for table, rows in self._rows.items():
            database.execute(f'DELETE FROM "{table}"')  # noqa: S608 - a constant
            if rows:
                places = ", ".join("?" * len(rows[0]))
                database.executemany(f'INSERT INTO "{table}" VALUES ({places})', rows)  # noqa: S608 - constants
        database.execute("COMMIT")

    @staticmethod
    def _execute(plan: Plan, *, verbose: bool) -> Result:
        world = World(plan, verbose=verbose)
        surroundings.set_current(world)
        # It uses virtual time, and it does not wait for requests of other simulations on this machine.
        ImportedRowMiddleware.shop_load = ShopLoad(clock=lambda: virtual_time.clock.now, shared_file="")
        result = Result(plan)
        try:
            world.loop.run_until_complete(world.run())
            world.fates.clear()
            result.findings = checks.audit(world)
            if world.epilogues and not result.findings:
                world.loop.run_until_complete(world.run_epilogue())
                result.findings = checks.audit(world)
        except event_loop.Stuck as stuck:
            world.stuck = str(stuck)
            result.findings = checks.audit(world)
        result.trace_hash, result.calls = world.trace_hash(), world.network.calls
        world.dismantle()
        # So that the world is collected. The traceback of Django's last error refers to it.
        surroundings.forget_current()
        connection.rollback_exc = None  # type: ignore[attr-defined] # django-stubs do not know the attribute
        return result
