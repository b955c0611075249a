"""What an audit found: one sentence for each row or report that is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Self


@dataclass
class Findings:
    """The sentences, by kind."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    misreported: list[str] = field(default_factory=list)
    lost_updates: list[str] = field(default_factory=list)
    wrong_undos: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def __iadd__(self, other: Findings) -> Self:
        for kind, sentences in asdict(other).items():
            getattr(self, kind).extend(sentences)
        return self

    def counts(self) -> dict[str, int]:
        return {kind: len(sentences) for kind, sentences in asdict(self).items()}

    def sentences(self) -> list[str]:
        """Return each sentence once, with its kind and its number of occurrences."""
        kinds = asdict(self).items()
        return [f"{kind}: {text} ({n} times)" for kind, texts in kinds for text, n in Counter(texts).items()]
