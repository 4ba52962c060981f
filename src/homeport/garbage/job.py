"""The job of cleaning up: it applies the retention policy, sweeps, and tells all that went since the run before it.

Holds: in doubt it does less and says why. Where nothing may be deleted it is skipped; where too many tags would go, or
nobody knows what runs, no tag is removed and the rest is done. It may be done again from its beginning at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from homeport.clock import rfc3339
from homeport.config.values import parse_duration
from homeport.events import SYSTEM, Origin
from homeport.garbage import brake, policy, totals
from homeport.garbage.brake import BrakeError, Excess
from homeport.garbage.guard import ClockGuard
from homeport.garbage.plan import plan
from homeport.garbage.sweep import Pace, Sweeper
from homeport.jobs.summary import Failure, Summary
from homeport.jobs.work import Kind, Run
from homeport.kinds import JOB_ARGUMENTS, Outcome
from homeport.registry import blobs, protections, uploads
from homeport.registry.registry import Registry
from homeport.storage.blobstore import StorageError

NAME: Final = "cleanup"
#: Words of `kinds.SKIPS`.
READ_ONLY: Final = "read-only"
CLOCK_JUMPED: Final = "clock-jumped"
STORAGE_UNREACHABLE: Final = "storage-unreachable"
UPLOADS_ACTIVE: Final = "uploads-active"
#: An upload is active while its last byte is not older than this.
ACTIVE_SECONDS: Final = 300.0
#: If none of so many blobs is there, it is the disk that is not.
_PROBED: Final = 8

_FLAGS: Final = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class _Arguments:
    """What this run was asked to do."""

    untagged_seconds: float | None
    is_dry: bool
    #: The run whose release this one may make use of.
    released: int | None

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> _Arguments:
        """Raises `ValueError` with the argument and what it takes instead."""
        try:
            untagged = told.get("untagged_after")
            seconds = None if untagged is None else parse_duration(untagged)
        except ValueError as error:
            raise ValueError(f"untagged_after {error}") from None
        dry = str(told.get("dry_run", "false")).lower()
        if dry not in _FLAGS:
            raise ValueError("dry_run must be true or false")
        released = told.get("released")
        if released is not None and not (str(released).isascii() and str(released).isdigit()):
            raise ValueError("released must be the number of a job")
        return cls(seconds, _FLAGS[dry], None if released is None else int(released))


@dataclass(slots=True)
class _Result:
    """What became of the policy."""

    removed: int = 0
    #: How many tags were not removed because those would have been too many.
    braked: int = 0
    reason: str | None = None
    failures: list[Failure] = field(default_factory=list)


def kind(
    registry: Registry, sweeper: Sweeper, guard: ClockGuard, pace: Pace, skip_while_uploading: Callable[[], bool]
) -> Kind:
    """The kind of job. Whether it is skipped while something is uploaded is asked at each run."""

    async def run(run: Run) -> Summary:
        try:
            arguments = _Arguments.parse(run.arguments)
        except ValueError as error:
            return Summary(Outcome.ERROR, str(error))
        return await _Cleanup(registry, sweeper, guard, pace, skip_while_uploading(), run, arguments).run()

    return Kind(NAME, run, takes=JOB_ARGUMENTS[NAME])


class _Cleanup:
    """One run."""

    def __init__(
        self,
        registry: Registry,
        sweeper: Sweeper,
        guard: ClockGuard,
        pace: Pace,
        skip_while_uploading: bool,
        run: Run,
        arguments: _Arguments,
    ) -> None:
        self._registry = registry
        self._sweeper = sweeper
        self._guard = guard
        self._pace = pace
        self._skip_while_uploading = skip_while_uploading
        self._run = run
        self._arguments = arguments

    async def run(self) -> Summary:
        """Do it."""
        if self._arguments.is_dry:
            return await self._rehearse()
        if (skip := await self._why_not()) is not None:
            return Summary(Outcome.SKIPPED, skip)
        try:
            result = await self._apply_policy()
        except BrakeError as error:
            return Summary(Outcome.ERROR, str(error))
        await self._sweep()
        counts = await self._registry.db.write(totals.tell, self._run.job.id)
        condemned, condemned_bytes = await self._registry.db.read(blobs.condemned)
        return _summary(counts, condemned, condemned_bytes, result)

    # --- whether ------------------------------------------------------------------------------------------------

    async def _why_not(self) -> str | None:
        """Why nothing may be deleted now, as a word of `kinds.SKIPS`."""
        registry, run = self._registry, self._run
        if registry.rules.read_only is not None:
            await run.say(f"the registry is read-only: {registry.rules.read_only}")
            return READ_ONLY
        if (doubt := await self._guard.stopped()) is not None:
            await run.say(f"{doubt}; if that is right, say so with `homeport cleanup confirm-clock`")
            return CLOCK_JUMPED
        if (problem := await self._storage_problem()) is not None:
            await run.say(problem)
            return STORAGE_UNREACHABLE
        if self._skip_while_uploading:
            since = registry.clock.now() - ACTIVE_SECONDS
            active = max(await registry.db.read(uploads.count_moving, since), len(registry.writing))
            if active:
                await run.say(f"{active} upload{'s' if active > 1 else ''} in the last five minutes")
                return UPLOADS_ACTIVE
        return None

    async def _storage_problem(self) -> str | None:
        """Why the bytes cannot be what the database says they are."""
        store = self._registry.blobs
        try:
            await store.space()
            probed = await self._registry.db.read(blobs.live, "", _PROBED)
            sizes = [await store.stat(blob.location) for blob, _ in probed]
        except (StorageError, OSError) as error:
            return f"the storage does not answer: {error}"
        if sizes and all(size is None for size in sizes):
            return f"none of {len(sizes)} blobs that should be there is: is the right disk mounted?"
        return None

    # --- the policy ---------------------------------------------------------------------------------------------

    async def _apply_policy(self) -> _Result:
        """Remove the tags that no rule keeps. Raises `BrakeError` if another run's release cannot be made use of."""
        registry, run = self._registry, self._run
        released: Mapping[str, int] = {}
        if self._arguments.released is not None:
            released = await registry.db.read(brake.allowed, self._arguments.released, run.job.id)
        if unknown := await registry.db.read(protections.unknown_engines, registry.rules.engines):
            return _unknown(unknown)
        decided_at, retention = registry.clock.now(), registry.rules.retention
        await run.progress(0, None, text="deciding about tags")
        found, total = await policy.removals(registry, self._pace)
        going = {removal.repository: (len(removal.tags), removal.total) for removal in found}
        count = sum(len(removal.tags) for removal in found)
        if excesses := brake.excesses(going, total, released):
            why = brake.reason(excesses, run.job.id)
            await registry.db.write(brake.stop, registry, run.job.id, going, why)
            await run.say(why)
            return _braked(count, excesses, why)
        if self._arguments.released is not None:
            await registry.db.write(brake.use, self._arguments.released, run.job.id)
        await run.say(f"{count} of {total} tags are kept by no rule")
        origin = Origin(SYSTEM.actor, run=f"job-{run.job.id}")
        removed = await policy.remove(
            registry, self._pace, origin, found, retention, decided_at, self._guard.may_delete
        )
        if removed < count:
            await run.say(f"{count - removed} of them stay: pushed, pulled or used since, or the rules changed")
        return _Result(removed)

    async def _sweep(self) -> None:
        await self._run.progress(0, None, text="sweeping")
        if self._arguments.untagged_seconds is not None:
            await self._sweeper.sweep_now(self._arguments.untagged_seconds)
        await self._sweeper.sweep()

    # --- a rehearsal --------------------------------------------------------------------------------------------

    async def _rehearse(self) -> Summary:
        """The summary that a run would have now, and nothing else."""
        registry, run = self._registry, self._run
        await run.progress(0, None, text="planning")
        counts = await registry.db.read(totals.since_last_told)
        unknown = await registry.db.read(protections.unknown_engines, registry.rules.engines)
        untagged_seconds = self._arguments.untagged_seconds
        found = await plan(registry, untagged_seconds=untagged_seconds, pace=self._pace)
        excesses = brake.excesses(found.going, found.tags, {})
        if unknown or excesses:
            result = _unknown(unknown) if unknown else _braked(found.tags_going, excesses, excesses[0].sentence)
            found = await plan(registry, untagged_seconds=untagged_seconds, pace=self._pace, tags_go=False)
        else:
            result = _Result(found.tags_going)
        counts["tags"] += result.removed
        counts["manifests"] += found.at_once.manifests
        counts["blobs"] += found.at_once.blobs
        summary = _summary(counts, found.at_once.freed, found.at_once.bytes, result)
        reason = f"nothing was removed, this was a dry run{'' if summary.reason is None else f'; {summary.reason}'}"
        await run.say(f"as of {rfc3339(int(found.at))}: nothing is removed")
        return Summary(summary.outcome, reason, summary.counts, summary.failures, summary.failed)


def _unknown(engines: Sequence[str]) -> _Result:
    why = "has never told what it runs, so no tag was removed"
    return _Result(
        reason=f"engine {engines[0]} {why}" if len(engines) == 1 else None,
        failures=[Failure(f"engine {engine}", why) for engine in engines],
    )


def _braked(count: int, excesses: list[Excess], why: str) -> _Result:
    failures = [Failure(each.repository or "all repositories", each.sentence) for each in excesses]
    return _Result(braked=count, reason=why, failures=failures)


def _summary(counts: Mapping[str, int], condemned: int, condemned_bytes: int, result: _Result) -> Summary:
    failures = list(result.failures)
    if counts["failures"]:
        failures.append(Failure("sweep", f"{counts['failures']} things could not be looked at; they are tried again"))
    told = {**counts, "condemned": condemned, "condemned_bytes": condemned_bytes, "braked": result.braked}
    outcome = Outcome.PARTIAL if failures else Outcome.SUCCESS
    reason = result.reason or (failures[0].why if len(failures) == 1 else None)
    return Summary(outcome, reason, told, tuple(failures))
