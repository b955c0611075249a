"""The exceptions that a call of AWS can raise. Every module that calls AWS catches them."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

AWS_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
"""What boto3 raises if AWS does not respond, refuses a call or gives a response that botocore cannot parse.

ResponseParserError is listed because it is not a BotoCoreError. A proxy that responds with HTML causes it.
"""
