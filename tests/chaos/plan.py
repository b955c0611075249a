"""The plan of a run: which rows it imports and which faults it injects. The seed determines all of it.

The same seed gives the same rows, the same events at the same seconds, and the same fate for the n-th request of a
kind. It does not determine which process sends that request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.chaos.proxy import Kind

FAULT_SECONDS = 6.0
"""How long we inject faults. After that, every part gets the time to recover."""

OUTAGE = "target away for good"
"""The event after which the create endpoint does not work until the jobs have ended."""

STAFF_PAUSE = "staff pause"
EDIT = "edit"
"""The event in which somebody changes a product without an import."""

BROKEN_NAME = "Broken"
"""Names of products begin with this word if the create endpoint answers them 500, however often they are sent."""

SHARED = "-shared-"
"""Part of the SKU of each product that several jobs change."""

SHARED_PRODUCTS = 8
"""Number of products that several jobs of a run change, or create if they do not exist."""

REHEARSED_SHARE = 0.25
"""Share of the jobs that are rehearsed, and then run."""

WRONG_SHARE = 0.05
"""Share of the rows of an update or upsert that the endpoint refuses."""

CREATE = "create"
API = ("claim", "heartbeat", "finish", "release", "dead", "submit")

CREATE_FATES = {
    Kind.RESET: 3,
    Kind.CUT: 4,
    Kind.TORN: 2,
    Kind.ERROR: 5,
    Kind.SWAPPED: 3,
    Kind.LATE: 2,
    Kind.TWICE: 3,
    Kind.SLOW: 2,
}
API_FATES = {Kind.RESET: 3, Kind.CUT: 3, Kind.TORN: 1, Kind.ERROR: 3, Kind.SWAPPED: 2, Kind.SLOW: 2, Kind.TWICE: 2}
PUBLISH_FATES = {Kind.KILL: 1, Kind.KILL_AFTER: 1, Kind.LOST: 2, Kind.TWICE: 1}
AWS_FATES = {Kind.RESET: 2, Kind.CUT: 3, Kind.TORN: 2, Kind.ERROR: 4, Kind.SWAPPED: 1, Kind.SLOW: 2, Kind.TWICE: 1}

LASTS_SECONDS = {
    "pause poller": (2.2, 3.2),  # longer than the lease, shorter than the function's timeout
    "payloads away": (2.0, 4.0),  # long enough for all deliveries of a message
    OUTAGE: (FAULT_SECONDS, FAULT_SECONDS),  # at least until the other faults end; then `Faults.outage_fate` goes on
    STAFF_PAUSE: (1.0, 3.0),  # long enough that a call that begins during the pause would be noticed
}


@dataclass(frozen=True)
class Profile:
    """How many faults of which kind a run injects."""

    events: dict[str, tuple[int, int]]  # minimum and maximum number of each kind
    create_rate: float = 0.15  # share of the create calls with a fault
    create_fates: dict[Kind, int] = field(default_factory=lambda: CREATE_FATES)
    api_rate: float = 0.08  # ... of the other requests to the monolith
    aws_rate: float = 0.08  # ... of the requests to S3 and SQS
    aws_fates: dict[Kind, int] = field(default_factory=lambda: AWS_FATES)
    create_seconds: float = 0.15  # mean delay of a create call, so that faults interrupt running calls
    publish_rate: float = 0.0  # share of the SendMessageBatch calls with one of the PUBLISH_FATES
    kill_finisher: float = 0.0  # share of the finishes after which a poller is killed
    broken_share: float = 0.0  # share of the imports whose rows are all answered 500
    changes: tuple[int, int] = (1, 3)  # minimum and maximum number of jobs that change the same products
    undo_share: float = 0.3  # share of the jobs that are undone


PROFILES = {
    "mixed": Profile(
        {
            "kill poller": (0, 2),
            "kill monolith": (0, 2),
            "kill relay": (0, 1),
            "kill dead-letter poller": (0, 1),
            "pause poller": (0, 2),
            "copy message": (0, 5),
            "dead letter": (0, 1),
            "stale worker": (0, 1),
            "monolith away": (0, 1),
            "s3 away": (0, 1),
            "sqs away": (0, 1),
            "s3 hangs": (0, 1),
            STAFF_PAUSE: (0, 1),
            EDIT: (0, 4),
        },
        publish_rate=0.1,
        kill_finisher=0.1,
        broken_share=0.1,
    ),
    # Requests and messages that arrive several times, at once or late.
    "twins": Profile(
        {"copy message": (6, 12), "kill poller": (0, 1)},
        create_rate=0.5,
        create_fates={Kind.TWICE: 8, Kind.LATE: 1, Kind.CUT: 1},
    ),
    # Answers that never arrive, or differ from what happened.
    "answers": Profile(
        {"kill monolith": (1, 2), "copy message": (0, 2)},
        create_rate=0.35,
        create_fates={Kind.CUT: 4, Kind.TORN: 2, Kind.SWAPPED: 4, Kind.ERROR: 3, Kind.RESET: 1},
    ),
    # Workers that sleep longer than their lease, while another worker claims their chunk.
    "pauses": Profile(
        {"pause poller": (2, 4), "copy message": (4, 8), "stale worker": (1, 2)},
        create_rate=0.1,
        create_fates={Kind.LATE: 3, Kind.SLOW: 2, Kind.TWICE: 1},
        create_seconds=0.3,
    ),
    # Messages that end in the dead-letter queue: after maxReceiveCount deliveries, or because the run sends them there.
    "deaths": Profile(
        {
            "dead letter": (1, 4),
            "kill dead-letter poller": (0, 2),
            "copy message": (0, 3),
            "payloads away": (0, 2),
            "kill poller": (0, 2),
        },
        create_rate=0.1,
        create_seconds=0.3,
    ),
    # Chunks that are committed while their messages cannot be sent.
    "unsent": Profile(
        {"sqs away at first": (0, 1), "kill relay": (0, 2), "kill poller": (0, 1)},
        create_rate=0.05,
        publish_rate=0.8,
    ),
    # Many jobs about the same products, which are undone soon, and whose products people change meanwhile.
    "changes": Profile(
        {EDIT: (4, 8), "kill poller": (0, 1), "copy message": (2, 4), "kill monolith": (0, 1)},
        create_rate=0.3,
        create_fates={Kind.TWICE: 3, Kind.LATE: 3, Kind.CUT: 2},
        create_seconds=0.05,
        changes=(4, 6),
        undo_share=0.8,
    ),
    # Rows that the endpoint answers 500 each time.
    "errors": Profile({"kill poller": (0, 1), "copy message": (0, 2)}, create_rate=0.05, broken_share=1.0),
    # The endpoint stops working, and comes back only after the jobs have been paused for too long.
    "outage": Profile({OUTAGE: (1, 1), "kill poller": (0, 1)}, api_rate=0.0, aws_rate=0.0),
    # S3 that accepts connections and does not answer.
    "hangs": Profile({"s3 hangs": (1, 2), "s3 hangs at first": (0, 1)}, create_rate=0.05),
    # Staff pause and resume the jobs at random moments.
    "staff": Profile({STAFF_PAUSE: (2, 4), "kill poller": (0, 1), "copy message": (0, 3)}, create_seconds=0.3),
}
MIXTURE = ["mixed"] * 4 + [name for name in PROFILES if name != "mixed"]


@dataclass(frozen=True, order=True, slots=True)
class Event:
    at: float  # seconds since the run began
    kind: str
    which: int  # a number that selects one of the existing processes or chunks
    seconds: float  # duration or delay


@dataclass(frozen=True, slots=True)
class Row:
    """A row, and whether the shop must accept it."""

    body: dict[str, Any]
    is_valid: bool
    is_broken: bool = False  # whether the create endpoint answers it 500 each time


@dataclass(frozen=True, slots=True)
class Submission:
    """An import that a user sends, and what the user does with it when it has ended."""

    at: float
    key: str
    rows: list[Row]
    mode: str = "create"
    is_rehearsal: bool = False
    then: tuple[str, ...] = ()  # calls of the API, each of them for the job that the last one started

    @property
    def is_broken(self) -> bool:
        """Whether the create endpoint answers every valid row 500."""
        return any(row.is_broken for row in self.rows)


class Plan:
    """The part of a run that is determined before it starts."""

    def __init__(self, seed: int, profile: str = "", prefix: str = "") -> None:
        random = Random(f"plan {seed}")  # noqa: S311 - a seed must be repeatable
        self.seed = seed
        drawn = random.choice(MIXTURE)
        self.profile_name = profile or drawn
        self.profile = PROFILES[self.profile_name]
        self.prefix = f"{prefix}{seed}"
        self.shared_skus = [f"{self.prefix}{SHARED}{number}" for number in range(SHARED_PRODUCTS)]
        self.existing_skus = self.shared_skus[::2]  # they exist before the run
        self.submissions = [self._import(random, number) for number in range(random.randint(1, 2))]
        self.submissions += [self._change(random, number) for number in range(random.randint(*self.profile.changes))]
        self.events = sorted(
            self._event(random, kind)
            for kind, (least, most) in self.profile.events.items()
            for _ in range(random.randint(least, most))
        )

    @property
    def kinds(self) -> set[str]:
        """The kinds of the events."""
        return {event.kind for event in self.events}

    def _import(self, random: Random, number: int) -> Submission:
        """Draw an import that creates products of its own."""
        count = random.randint(40, 75)
        rows = [self._row(random, f"{self.prefix}-{number}-{index}") for index in range(count)]
        if random.random() < self.profile.broken_share:
            rows = [_broken(row) if row.is_valid else row for row in rows]
        for _ in range(random.randint(0, 3)):  # give a row the SKU of an earlier row
            index = random.randrange(1, count)
            repeated = rows[random.randrange(index)]
            if (repeated.is_valid or repeated.is_broken) and not any(
                rows[index].body["sku"] == row.body["sku"] for row in rows[index + 1 :]
            ):
                rows[index] = Row({**rows[index].body, "sku": repeated.body["sku"]}, is_valid=False)
        at = round(number * random.uniform(0, 1.5), 2)
        is_rehearsal = random.random() < REHEARSED_SHARE
        then = self._then(random, "create", is_rehearsal=is_rehearsal)
        return Submission(at, f"{self.prefix}-{number}", rows, "create", is_rehearsal, then)

    def _change(self, random: Random, number: int) -> Submission:
        """Draw an update or upsert of the shared products. A row may contain some fields only, or wrong ones."""
        mode = random.choice(["update", "upsert", "upsert"])
        rows = []
        # In the same order in each job, so that jobs that run at the same time often meet.
        for sku in sorted(random.sample(self.shared_skus, random.randint(3, len(self.shared_skus)))):
            # There are few different values, so a product often has them already.
            body = {**shared_product(sku), "price": f"{random.randint(1, 4)}.00", "stock": random.randint(1, 4)}
            if mode == "update":
                body.pop(random.choice(["price", "stock", "category"]))
            if is_wrong := random.random() < WRONG_SHARE:
                body["category"] = "kayaks"
            rows.append(Row(body, is_valid=not is_wrong))
        at = round(random.uniform(0, 1.5), 2)
        is_rehearsal = random.random() < REHEARSED_SHARE
        then = self._then(random, mode, is_rehearsal=is_rehearsal)
        return Submission(at, f"{self.prefix}-change-{number}", rows, mode, is_rehearsal, then)

    def _then(self, random: Random, mode: str, *, is_rehearsal: bool) -> tuple[str, ...]:
        """Draw what the user does with a job that has ended."""
        then = ["run"] if is_rehearsal else []
        if mode != "update" and random.random() < self.profile.undo_share:
            then += random.choice([["undo"], ["undo?rehearse=true", "run"]])
        return tuple(then)

    @staticmethod
    def _row(random: Random, sku: str) -> Row:
        good = {
            "sku": sku,
            "name": f"Kettle {random.randrange(1000)}",
            "price": f"{random.randrange(1, 10_000) / 100:.2f}",
            "currency": random.choice(["EUR", "USD", "BRL"]),
            "category": "cookware",
            "stock": random.randrange(10),
        }
        fault = random.choices(["", "unknown", "archived", "taken", "price"], [88, 4, 3, 3, 2])[0]
        if fault == "unknown":
            return Row({**good, "category": "kayaks"}, is_valid=False)
        if fault == "archived":
            return Row({**good, "category": "ski-rental"}, is_valid=False)
        if fault == "taken":
            return Row({**good, "sku": "TENT-RIDGE-2"}, is_valid=False)
        if fault == "price":
            return Row({**good, "price": "-1.00"}, is_valid=False)
        return Row(good, is_valid=True)

    @staticmethod
    def _event(random: Random, kind: str) -> Event:
        at = 0.0 if kind.endswith("at first") else random.uniform(0.2, FAULT_SECONDS)
        which = random.randrange(10_000)
        least, most = LASTS_SECONDS.get(kind, (0.5, 2.5))
        seconds = random.uniform(least, most)
        return Event(round(at, 2), kind, which, round(seconds, 2))


def shared_product(sku: str) -> dict[str, Any]:
    """Return a product that several jobs change, as it is before the first one."""
    return {"sku": sku, "name": "Kettle", "price": "1.00", "currency": "EUR", "category": "cookware", "stock": 1}


def _broken(row: Row) -> Row:
    """Return the row with a name that makes the create endpoint answer 500."""
    return Row({**row.body, "name": f"{BROKEN_NAME} {row.body['name']}"}, is_valid=False, is_broken=True)
