"""Keeps the logs of HTTP clients out of the output of commands."""

from __future__ import annotations

import logging

CLIENTS = ("boto3", "botocore", "httpcore", "httpx", "s3transfer", "urllib3")


def quiet_clients(verbosity: int) -> None:
    """Log only the clients' warnings, unless the command was called with `-v 2`.

    On a site that logs everything to the console, their debug lines would hide what the command says.
    """
    if verbosity < 2:  # noqa: PLR2004 - Django's number for verbose output
        for name in CLIENTS:
            logging.getLogger(name).setLevel(logging.WARNING)
