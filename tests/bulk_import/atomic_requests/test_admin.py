"""Runs the tests of the admin pages again, with ATOMIC_REQUESTS."""

from tests.bulk_import.test_admin import *  # noqa: F403 - every test and fixture of that module
