"""What was found, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from botocore.exceptions import ClientError

DENIED = {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "403", "Forbidden"}
BAD_CREDENTIALS = {"InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken"}
MEND_CREDENTIALS = "Give the monolith's process valid credentials: its role, or AWS_ACCESS_KEY_ID and its companions."
MEND_NETWORK = "See that this machine reaches it: AWS_ENDPOINT_URL, region, DNS, proxy, security group, VPC endpoint."
MEND_CLOCK = "Keep the clocks by NTP (chrony), on the machines of the monolith and of the database."


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, or seems to; somebody should look
    ERROR = "error"  # imports fail, or their guarantees do


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing, and how to mend it; "" where there is nothing to mend."""

    subject: str
    level: Level
    message: str
    mend: str = ""


def skew(whose: str, there: datetime, bound: float) -> Finding:
    seconds = abs((there - datetime.now(UTC)) / timedelta(seconds=1))
    if seconds > bound:
        message = f"The clock of this machine and that of the {whose} are {seconds:.0f} s apart."
        return Finding("clock", Level.ERROR, message, MEND_CLOCK)
    return Finding("clock", Level.OK, f"As that of the {whose}.")


def code_of(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def denied(subject: str, right: str, who: str, level: Level = Level.WARNING) -> Finding:
    return Finding(subject, level, f"AccessDenied: {right} is not allowed.", f"Allow {right} to {who}.")


def aws_finding(subject: str, code: str, error: Exception) -> Finding:
    if code in BAD_CREDENTIALS or code in {"NoCredentialsError", "PartialCredentialsError"}:
        return Finding(subject, Level.ERROR, f"AWS does not know who this is: {code}", MEND_CREDENTIALS)
    if code in {"RequestTimeTooSkewed", "SignatureExpired"}:
        return Finding(subject, Level.ERROR, f"AWS refuses this machine's clock: {code}", MEND_CLOCK)
    return Finding(subject, Level.ERROR, one_line(error), MEND_NETWORK)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
