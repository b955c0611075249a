"""What a worker reports of its create calls, in `heartbeat`, `release` and `finish`, for staff to see."""

from __future__ import annotations

from dataclasses import dataclass, field

from bulk_import_wire.json_object import JsonObject

NO_VERDICT = "no-verdict"
"""Key in `Calls.answers` of the answers that have no verdict and are no errors, such as a login page."""

NO_ANSWER = "no-answer"
"""Key in `Calls.answers` of the calls that got no answer."""

MAX_ANSWERS = 20
"""Maximum number of keys in `Calls.answers`. An endpoint may answer with hundreds of HTTP statuses."""


@dataclass(frozen=True, slots=True)
class Calls(JsonObject):
    """How the create endpoint answers a worker: `calls` of `heartbeat`, `release` and `finish`, for staff to see.

    The numbers are those of one delivery so far. So it does not matter if a report is lost or repeated.
    """

    in_flight: int = 0  # create calls that wait for their answer
    oldest_ms: int = 0  # how long the oldest of them has been waiting, in milliseconds
    total_ms: int = 0  # sum of how long the calls took that have ended, in milliseconds
    # Number of calls by their answer: a RowVerdict other than `not-created`, an HTTP status, NO_VERDICT or NO_ANSWER.
    answers: dict[str, int] = field(default_factory=dict)
