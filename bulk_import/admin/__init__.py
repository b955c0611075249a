"""The admin pages on which staff watch imports and act on them."""

from bulk_import.admin.jobs import ImportJobAdmin
from bulk_import.admin.now_page import ImportsNowAdmin

__all__ = ["ImportJobAdmin", "ImportsNowAdmin"]
