"""The job of mirroring: a run of all images or of one, and how it ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run
from homeport.kinds import JOB_ARGUMENTS, Outcome
from homeport.mirror import rules
from homeport.mirror.run import MirrorRun, Parts

NAME: Final = "mirror"
#: A word of `kinds.SKIPS`.
READ_ONLY: Final = "read-only"
NOTHING: Final = "nothing is mirrored: 'mirror.images' names no image, and 'mirror.follow' is not set"


def kind(parts: Parts) -> Kind:
    """The kind of job. What is mirrored is read from the settings at each run."""

    async def run(run: Run) -> Summary:
        mirror = parts.settings().mirror
        wanted = rules.of(mirror)
        name = run.arguments.get("name")
        if name is not None:
            wanted = rules.named(wanted, str(name))
            if not wanted:
                return Summary(Outcome.ERROR, f"no image of the configuration is called '{str(name)[:200]}'")
        if (why := parts.registry.rules.read_only) is not None:
            await run.say(f"the registry is read-only: {why}")
            return Summary(Outcome.SKIPPED, READ_ONLY)
        if not wanted and not mirror.follow:
            await run.say(NOTHING)
        result = await MirrorRun(
            parts, run, wanted, follow=mirror.follow and name is None, everything=name is None
        ).do()
        done = result.unchanged + result.copied
        summary = Summary.of(result.counts, result.failures, done)
        if len(result.failures) == 1:
            only = result.failures[0]
            summary = replace(summary, reason=f"{only.what}: {only.why}")
        return summary

    return Kind(NAME, run, takes=JOB_ARGUMENTS[NAME], attempts_max=5)
