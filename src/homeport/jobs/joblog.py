"""What jobs say while they run: facts of the table `job_lines`.

Holds: of each job the newest lines are kept, and each line has a bound, so a job can say as much as it likes. A line's
number is given once. Lines go with their job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from homeport.clock import Clock, rfc3339
from homeport.db.database import Transaction

#: How many lines of one job are kept.
LINES_MAX: Final = 5_000
#: How long a line may be, in UTF-8.
LINE_BYTES_MAX: Final = 4 * 1024

#: What ends a line, and what would do something to a terminal. (The tabulator stays.)
_BREAK = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Line:
    """Something that a job said. Numbers begin at 1 and grow; where some are missing, older lines were forgotten."""

    number: int
    said_at: float
    text: str

    def told(self) -> dict[str, Any]:
        """The line as JSON has it, in answers."""
        return {"number": self.number, "at": rfc3339(self.said_at), "text": self.text}


def cut(text: str) -> list[str]:
    """The lines of `text` as they are kept: at most `LINES_MAX`, the last ones, without control characters."""
    return [_cut_line(line) for line in _BREAK.split(text.rstrip("\r\n"))[-LINES_MAX:]]


def say(tx: Transaction, clock: Clock, job_id: int, texts: Iterable[str]) -> None:
    """Add lines to the job's log, and forget its oldest ones beyond `LINES_MAX`."""
    now = clock.now()
    row = tx.one("SELECT coalesce(max(number), 0) FROM job_lines WHERE job_id = ?", (job_id,))
    assert row is not None
    last = row[0]
    for text in texts:
        for line in cut(text):
            last += 1
            tx.run(
                "INSERT INTO job_lines (job_id, number, said_at, text) VALUES (?, ?, ?, ?)", (job_id, last, now, line)
            )
    tx.run("DELETE FROM job_lines WHERE job_id = ? AND number <= ?", (job_id, last - LINES_MAX))


def lines(tx: Transaction, job_id: int, after: int = 0, limit: int = 1_000) -> list[Line]:
    """The oldest `limit` lines that are kept behind the line with the number `after`."""
    rows = tx.all(
        "SELECT number, said_at, text FROM job_lines WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?",
        (job_id, after, limit),
    )
    return [Line(*row) for row in rows]


def _cut_line(line: str) -> str:
    data = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", line[:LINE_BYTES_MAX]).encode("utf-8", "backslashreplace")
    if len(data) <= LINE_BYTES_MAX and len(line) <= LINE_BYTES_MAX:
        return data.decode()
    return data[: LINE_BYTES_MAX - 3].decode("utf-8", "ignore") + "…"
