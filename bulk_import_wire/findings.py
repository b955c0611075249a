"""What a diagnosis reports: findings, each with what to change. The doctor and the worker's probe use them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # imports probably work, but somebody should look at this
    ERROR = "error"  # imports fail, or rows can be lost or created twice


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one examination. `fix` says what to change; it is "" if nothing has to change."""

    subject: str
    level: Level
    message: str
    fix: str = ""

    def __str__(self) -> str:
        line = f"{self.level:8}{self.subject}: {self.message}"
        return f"{line}\n{'':8}→ {self.fix}" if self.fix else line
