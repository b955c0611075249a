"""Where staff watch imports, and what they can do about them."""

from bulk_import.admin.jobs import ImportJobAdmin

__all__ = ["ImportJobAdmin"]
