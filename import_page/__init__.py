"""A page on which users import files, for any target of `bulk_import`, and the reference for frontends.

It uses only the public HTTP API and the settings of the targets.
"""
