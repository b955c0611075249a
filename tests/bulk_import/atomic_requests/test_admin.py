"""Runs the tests of the admin pages again, with ATOMIC_REQUESTS."""

import pytest

from tests.bulk_import.test_admin import *  # noqa: F403 - every test and fixture of that module

pytestmark = pytest.mark.one_database  # no admin page continues after an error of the database
