"""Runs the tests of the worker API again, with ATOMIC_REQUESTS."""

from tests.bulk_import.worker_api.test_views import *  # noqa: F403 - every test and fixture of that module
