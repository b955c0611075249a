"""The name of an uploaded file, by which people recognise their import."""

from __future__ import annotations

from pathlib import PureWindowsPath

from django.utils.http import parse_header_parameters

MAX_CHARACTERS = 255
"""Longest name that is stored, which is the longest one that file systems allow. A longer name is cut."""


def clean_file_name(name: str) -> str:
    """Return the name without its folders and without characters that cannot be printed, or "" if nothing is left.

    The name comes from the client. For example, a character that reverses the direction of the text could make
    `exe.csv` look like another kind of file.
    """
    base = PureWindowsPath(name).name  # understands both kinds of slashes
    return "".join(character for character in base if character.isprintable()).strip()[:MAX_CHARACTERS]


def file_name_of(content_disposition: str) -> str:
    """Return the `filename` of a Content-Disposition header, cleaned; "" if it has no name that can be read."""
    try:
        _disposition, parameters = parse_header_parameters(content_disposition)
    except ValueError:  # an unknown encoding; the rows can be imported without a name
        return ""
    return clean_file_name(parameters.get("filename", ""))
