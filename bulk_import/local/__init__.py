"""Runs S3, SQS and the workers on a developer's machine: `manage.py bulk_import_local`. Nothing here is deployed."""
