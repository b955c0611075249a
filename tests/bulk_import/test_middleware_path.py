"""A site that lists the middleware under its old path keeps working for one more release."""

from __future__ import annotations

import pytest
from django.utils.module_loading import import_string

from bulk_import import ledger
from bulk_import.middleware import ImportedRowMiddleware

OLD_PATH = "bulk_import.ledger.ImportedRowMiddleware"
NEW_PATH = "bulk_import.middleware.ImportedRowMiddleware"


def test_the_old_path_returns_the_middleware_with_a_deprecation_warning() -> None:
    with pytest.warns(DeprecationWarning, match=NEW_PATH):
        assert import_string(OLD_PATH) is ImportedRowMiddleware


def test_an_unknown_name_in_the_ledger_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ledger.no_such_name
