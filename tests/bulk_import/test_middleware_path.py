"""Sites that list the middleware under its old path keep working for one more release."""

from __future__ import annotations

import pytest
from django.utils.module_loading import import_string

from bulk_import import ledger
from bulk_import.middleware import ImportedRowMiddleware

OLD_PATH = "bulk_import.ledger.ImportedRowMiddleware"
NEW_PATH = "bulk_import.middleware.ImportedRowMiddleware"


def test_the_old_path_gives_the_middleware_with_a_deprecation_warning() -> None:
    with pytest.warns(DeprecationWarning, match=NEW_PATH):
        assert import_string(OLD_PATH) is ImportedRowMiddleware


def test_the_ledger_has_no_other_names_than_its_own() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ledger.no_such_name
