"""What came of one try to tell somebody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from homeport.client.redaction import plain_text

#: sent: it was taken. retry: trying again may help. refused: it never will.
Outcome: TypeAlias = Literal["sent", "retry", "refused"]

#: How much of an answer is kept.
ANSWER_CHARACTERS_MAX: Final = 200
#: Request Timeout and Too Many Requests: of the answers of 4xx those after which trying again may help.
_LATER_STATUSES: Final = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class Sent:
    """One try. `answer` is for people: what the receiver said, or why it could not be asked; no secret is in it."""

    #: HTTP's status; None where there was no answer, or the receiver is not spoken to by us.
    status: int | None
    answer: str
    outcome: Outcome
    #: For how many seconds the receiver asks us to stay away, where it says so.
    retry_after: float | None = None
    #: What it was taken for: a format, or a chat service by its name.
    receiver: str = ""

    @property
    def words(self) -> str:
        """Status and answer on one line."""
        return in_words(self.status, self.answer)

    def told(self) -> dict[str, Any]:
        """The try as JSON has it."""
        return {
            "status": self.status,
            "answer": self.answer,
            "outcome": self.outcome,
            "receiver": self.receiver,
        }


def in_words(status: int | None, answer: str) -> str:
    """Status and answer on one line: the body of a 404 may be empty or just `ok`."""
    if status is None or str(status) in answer:
        return answer
    return f"{status} {answer}".rstrip()


def shortened(text: str, secrets: Iterable[str]) -> str:
    """`text` as an answer is kept: short, on one line, without these secrets."""
    shown = plain_text(text, secrets)
    return shown if len(shown) <= ANSWER_CHARACTERS_MAX else shown[:ANSWER_CHARACTERS_MAX] + "…"


def is_final(status: int) -> bool:
    """Whether an answer of this status means that trying again will never help."""
    return 400 <= status < 500 and status not in _LATER_STATUSES
