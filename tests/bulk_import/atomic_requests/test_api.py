"""Runs the tests of the public API again, with ATOMIC_REQUESTS."""

from tests.bulk_import.api.test_views import *  # noqa: F403 - every test and fixture of that module
