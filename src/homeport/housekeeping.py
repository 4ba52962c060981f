"""The job that forgets what is older than the configuration keeps.

Holds: each batch is a transaction of its own, so that nobody waits long for it; what fails keeps nothing else from
going. What was already forgotten stays so, however the run ends. A clock that was wrong for a moment forgets nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from homeport import events
from homeport.clock import Clock
from homeport.db.database import Database, Transaction
from homeport.jobs.summary import Failure, Summary
from homeport.jobs.work import Kind, Run
from homeport.kinds import JOB_ARGUMENTS, Outcome

#: A fact that forgets what is older than a moment, at most so many, and says how many those were.
Prune: TypeAlias = Callable[[Transaction, float, int], int]

NAME: Final = "housekeeping"
#: How many rows go in one transaction.
BATCH_ROWS: Final = 500
#: After so long without an event a schedule does not trust the clock: it may have been set wrong, or right, just now.
SILENCE_SECONDS: Final = 2 * 86400.0
#: The word of `kinds.SKIPS` for that.
CLOCK_JUMPED: Final = "clock-jumped"


def kind(database: Database, clock: Clock, prunes: Callable[[], Mapping[str, tuple[Prune, float]]]) -> Kind:
    """The kind of job. `prunes` is asked at each run: under each name what forgets it, and how long it is kept."""

    async def run(run: Run) -> Summary:
        if run.job.schedule is not None and await database.read(_is_doubtful, clock.now()):
            await run.say("nothing happened for days by this clock: it may be wrong, so nothing is forgotten this time")
            return Summary(Outcome.SKIPPED, CLOCK_JUMPED)
        counts: dict[str, int] = {}
        failures: list[Failure] = []
        wanted = prunes()
        for number, (name, (prune, keep_seconds)) in enumerate(wanted.items()):
            await run.progress(number, len(wanted), text=name)
            counts[name] = 0
            before = clock.now() - keep_seconds
            try:
                # It can be undone by a power cut, and is done again then.
                while forgotten := await database.jot(prune, before, BATCH_ROWS):
                    counts[name] += forgotten
                    await run.progress(number, len(wanted), text=name)
            except Exception as error:  # noqa: BLE001 (the others are to go all the same, and it is told)
                failures.append(Failure(name, str(error)))
                await run.say(f"{name}: {error}")
            if counts[name]:
                await run.say(f"{name}: {counts[name]} forgotten")
        await run.progress(len(wanted), len(wanted))
        return Summary.of(counts, failures, len(wanted) - len(failures))

    return Kind(NAME, run, takes=JOB_ARGUMENTS[NAME])


def _is_doubtful(tx: Transaction, now: float) -> bool:
    """Whether the time may have jumped ahead: the newest event is days old, and no run has said so before this one.

    Where a machine was off for days, or nobody used it, the next run goes by the time that this one left in the log.
    """
    newest = events.latest(tx, 1)
    if not newest or now - newest[0].happened_at < SILENCE_SECONDS:
        return False
    return newest[0].reason != CLOCK_JUMPED
