"""Reads the bodies of the worker API's requests."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class WorkerParser(JSONParser):
    """DRF's parser, but a body that is nested too deeply is an error of the request, as any other malformed JSON."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
