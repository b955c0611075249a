"""The errors of SQS calls, for every module that calls SQS."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

SQS_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
"""What boto3 raises if SQS is away, refuses a call or gives an answer that botocore cannot parse.

ResponseParserError is listed because it is not a BotoCoreError. A proxy that answers with HTML causes it.
"""
