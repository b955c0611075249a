"""What the arguments of `manage.py bulk_import` name: a user, a file, its reading options, and an import.

Each function raises CommandError with an exit code (`Exit`) if an argument is wrong.
"""

from __future__ import annotations

import getpass
from dataclasses import replace
from enum import IntEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import DisallowedHost
from django.core.management.base import CommandError
from django.http import HttpRequest
from rest_framework.request import Request

from bulk_import.api.reading_parameters import ReadingParameters, reading_options
from bulk_import.conf import conf
from bulk_import.intake.file_name import clean_file_name
from bulk_import.intake.formats import SUFFIXES, TABLE
from bulk_import.intake.request_body import Upload, as_upload, file_too_large
from bulk_import.management.progress import read_job
from bulk_import.models import ImportJob

if TYPE_CHECKING:
    from pathlib import Path

    from bulk_import.intake.spreadsheets.options import ReadingOptions


class Exit(IntEnum):
    """Exit codes on which scripts can rely, besides 0 for success."""

    NOT_ALL_CREATED = 1
    REFUSED = 2  # argparse exits with 2 for wrong arguments
    UNAVAILABLE = 3
    INTERRUPTED = 130  # what shells report for Ctrl-C


def request_of(name: str | None, host: str = "") -> Request:
    """Return a request from the user with this login name, for the target's permissions and serializer.

    With None, it is the user of this process. `host` is the host that the request is for; "" if that does not matter.

    Raises CommandError if the user does not exist or is not active, or if the site does not know the host.
    """
    name = name or getpass.getuser()
    model = get_user_model()
    try:
        user: Any = model._default_manager.get_by_natural_key(name)  # noqa: SLF001 - Django's documented name
    except model.DoesNotExist as error:
        raise CommandError(f"There is no user {name}.", returncode=Exit.REFUSED) from error
    if not user.is_active:
        raise CommandError(f"The user {name} is not active.", returncode=Exit.REFUSED)
    plain = HttpRequest()
    plain.method = "POST"
    if host:
        plain.META |= {"HTTP_HOST": host, "SERVER_NAME": host, "SERVER_PORT": "443"}
        try:
            plain.get_host()
        except DisallowedHost as error:
            raise CommandError(str(error), returncode=Exit.REFUSED) from error
    # Permission classes may read the session, which SessionMiddleware adds to a real request. This one is never saved.
    plain.session = import_module(settings.SESSION_ENGINE).SessionStore()
    request = Request(plain)
    request.user = user
    request.auth = None  # otherwise, a permission class that reads it would make DRF authenticate, and remove the user
    return request


def describe(field: Any) -> str:
    """Return the help for a parameter: its text, or its choices."""
    return str(field.help_text or ", ".join(f"{value} ({text})" for value, text in field.choices.items()))


def read_options(reading: dict[str, str]) -> ReadingOptions:
    """Return the options about the file. Raises CommandError for a value that the API does not accept."""
    parameters = ReadingParameters(data=reading)
    if not parameters.is_valid():
        name, errors = next(iter(parameters.errors.items()))
        raise CommandError(f"argument --{name}: {errors[0]}", returncode=Exit.REFUSED)
    return reading_options(parameters.validated_data)


def find_job_of(user: Any, job_id: str | None) -> ImportJob:
    """Return the user's job with this ID. Raises CommandError."""
    try:
        return read_job(UUID(job_id), submitter=user)
    except (TypeError, ValueError, AttributeError, ImportJob.DoesNotExist) as error:
        name = user.get_username()
        raise CommandError(f"There is no import {job_id or ''} of {name}.", returncode=Exit.REFUSED) from error


def read_file(file: Path, query: str, options: ReadingOptions) -> Upload:
    """Read a file. The bytes of a file whose suffix is unknown say what it is.

    Raises CommandError, and BadImport if the file is too large or no table.
    """
    media_type = SUFFIXES.get(file.suffix.lower(), TABLE)
    try:
        if file.stat().st_size > conf().max_body_bytes:
            raise file_too_large()
        upload = as_upload(media_type, query, file.read_bytes(), options)
        return replace(upload, file_name=clean_file_name(file.name))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.", returncode=Exit.REFUSED) from error
