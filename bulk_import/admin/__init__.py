"""The admin pages on which staff watch imports and act on them."""

from bulk_import.admin.jobs import ImportJobAdmin

__all__ = ["ImportJobAdmin"]
