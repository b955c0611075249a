"""The findings of the doctor that several examinations have: clocks and errors of AWS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionError  # noqa: A004 - botocore's name

from bulk_import_wire.findings import Finding, Level

DENIED = {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "403", "Forbidden"}
"""AWS's error codes for a missing permission."""

BAD_CREDENTIALS = {
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "NoCredentialsError",
    "PartialCredentialsError",
}
"""Error codes of AWS, and exceptions of botocore, for credentials that are missing or not accepted."""

BAD_CLOCK = {"RequestTimeTooSkewed", "SignatureExpired"}
"""AWS's error codes for a request whose time differs too much from AWS's clock."""

LOOPBACK = {"localhost", "127.0.0.1", "::1"}

FIX_CREDENTIALS = (
    "Give the monolith's process valid credentials: an IAM role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)
FIX_NETWORK = (
    "Check that this machine can reach the service: AWS_ENDPOINT_URL, region, DNS, proxy, security group, VPC endpoint."
)
FIX_LOCAL = (
    "Start manage.py bulk_import_local, which runs S3 and SQS on this machine, with the environment of the site. If it "
    "runs, correct AWS_ENDPOINT_URL."
)
FIX_CLOCK = "Synchronize the clocks of the monolith's machines and of the database server by NTP, for example chrony."


def compare_clocks(other: str, time_there: datetime, max_seconds: float) -> Finding:
    """Compare the clock of this machine with another clock. An offset of more than `max_seconds` is an error."""
    seconds = abs((time_there - datetime.now(UTC)) / timedelta(seconds=1))
    if seconds > max_seconds:
        message = f"The clock of this machine and the clock of {other} are {seconds:.0f} s apart."
        return Finding("clock", Level.ERROR, message, FIX_CLOCK)
    return Finding("clock", Level.OK, f"The clock of this machine agrees with the clock of {other}.")


def code_of(error: Exception) -> str:
    """Return AWS's error code, or the name of the exception if AWS did not respond."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def denied(subject: str, permission: str, role: str, level: Level = Level.WARNING) -> Finding:
    return Finding(subject, level, f"AccessDenied: {permission} is not allowed.", f"Allow {permission} for {role}.")


def aws_finding(subject: str, code: str, error: Exception) -> Finding:
    """Return the finding for an AWS error that is neither a missing permission nor a missing resource."""
    if code in BAD_CREDENTIALS:
        return Finding(subject, Level.ERROR, f"AWS did not accept the credentials: {code}", FIX_CREDENTIALS)
    if code in BAD_CLOCK:
        return Finding(subject, Level.ERROR, f"AWS did not accept the clock of this machine: {code}", FIX_CLOCK)
    fix = FIX_NETWORK
    if isinstance(error, ConnectionError) and urlsplit(str(error.kwargs.get("endpoint_url"))).hostname in LOOPBACK:
        fix = FIX_LOCAL
    return Finding(subject, Level.ERROR, one_line(error), fix)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
