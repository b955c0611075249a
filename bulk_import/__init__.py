"""Bulk import for a Django monolith that creates rows one at a time. See docs/architecture.md."""
