"""How a run ended, in the form in which rows, events and payloads tell it.

Holds: what is told is bounded, so it fits into an event, however much failed and however long the reasons are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from homeport.kinds import Outcome

#: How many failures are told by name; the others are counted.
FAILURES_MAX: Final = 20
#: How long the texts of a failure, and a reason, may be.
FAILURE_CHARACTERS_MAX: Final = 500
REASON_CHARACTERS_MAX: Final = 1_000
#: How long all failures together may be, as JSON.
FAILURES_CHARACTERS_MAX: Final = 24 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that could not be done: what it is, such as an image, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended. No secret may be in it: it is kept and sent to others."""

    outcome: Outcome
    #: Why it ended so, where the outcome alone does not say it; of a skipped run a word of `kinds.SKIPS`.
    reason: str | None = None
    #: What was done, such as {"copied": 12}.
    counts: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    #: How many things failed, where that is more than the failures that are listed.
    failed: int = 0

    def told(self) -> dict[str, Any]:
        """The summary as JSON has it: at most `FAILURES_MAX` failures, and how many there were."""
        failures: list[dict[str, str]] = []
        room = FAILURES_CHARACTERS_MAX
        for failure in self.failures[:FAILURES_MAX]:
            told = {
                "what": shortened(failure.what, FAILURE_CHARACTERS_MAX),
                "why": shortened(failure.why, FAILURE_CHARACTERS_MAX),
            }
            room -= len(json.dumps(told))
            if room < 0:
                break
            failures.append(told)
        return {
            "outcome": str(self.outcome),
            "reason": None if self.reason is None else shortened(self.reason, REASON_CHARACTERS_MAX),
            "counts": dict(self.counts),
            "failures": failures,
            "failed": max(self.failed, len(self.failures)),
        }

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Summary:
        """What `told` made."""
        return cls(
            Outcome(told["outcome"]),
            told["reason"],
            dict(told["counts"]),
            tuple(Failure(failure["what"], failure["why"]) for failure in told["failures"]),
            told["failed"],
        )

    @classmethod
    def of(cls, counts: Mapping[str, int], failures: Sequence[Failure], done: int) -> Summary:
        """The summary of a run that came to its end with `done` things done and these failures."""
        if not failures:
            return cls(Outcome.SUCCESS, counts=counts)
        outcome = Outcome.PARTIAL if done else Outcome.ERROR
        return cls(outcome, failures[0].why if len(failures) == 1 else None, counts, tuple(failures))


def shortened(text: str, characters_max: int) -> str:
    """`text`, or as much of its beginning as may be told. What UTF-8 cannot carry is escaped."""
    text = text[: characters_max + 1].encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"
