"""The table that is printed: ours, theirs, ratio and bar."""

import os
from collections.abc import Iterable
from pathlib import Path

from bench import mirrors, rounds, servers
from bench.lines import Row
from bench.rounds import Bench

CONDITIONS = """\
{cores} cores, shared by the server and one client process, nothing pinned. Keep-alive connections. Each server on a
fresh folder of the same {filesystem}; what is pulled comes from the page cache. Medians of {rounds} alternating rounds;
the range behind a ratio is that of the rounds. "null" answers the same requests with nothing behind it: more this
client cannot show.

Homeport checks a Bearer token of a user whose rights come from one rule. The peers are docker-registry (Debian's
distribution 2.8) and distribution 3, with Debian's settings but without access control, which favours them. Each
server logs as it does by default, to a file. Pushes are durable when they are answered, each in its server's sense:
both peers fsync each file and distribution 3 the folders of small ones (strace counts 72 and 68 fsyncs for one small
image), neither the folder that a blob is renamed into; Homeport fsyncs files, folders and database. tags/list is asked
without n, which all answer whole, _catalog by 100 to its end. The webhooks that are told are signed, each for
manifest.pushed and tag.set; deliveries that are left when a push is measured arrive before the next clock starts.

What is swept or planned is not pushed but laid out: the same files for both registries, and Homeport's rows by its own
functions, with a clock that stands back. Our sweeper then runs in a process of its own, whose clock is moved past all
graces, without the pauses that it makes for requests; theirs runs alone, since nobody may push meanwhile.

What is mirrored and pulled through lies in a docker-registry on loopback, whose log says what it was asked. A run is
the command that a person types, from its start to its end: `homeport mirror run` beside a Homeport that is up, without
referrers; `skopeo sync --all --preserve-digests` of all repositories; `regsync once`. Ours and regsync ask for
{at_once} things at once, and skopeo for as many as it always does. Each peer fills a docker-registry. Images are pulled
by skopeo into a folder; a crowd is that of one client's connections.
"""
QUICK = """
--quick: much less work than the lines say. It shows that everything runs; the figures mean nothing.
"""

HEADINGS = ("work", "ours", "theirs: 2.8", "distribution 3", "null", "ratio (rounds)", "bar", "")


def filesystem(folder: Path) -> str:
    """The kind of file system that a folder is on."""
    mounts = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        mounts[Path(point)] = kind
    resolved = folder.resolve()
    return next((mounts[parent] for parent in (resolved, *resolved.parents) if parent in mounts), "unknown")


def conditions(bench: Bench) -> str:
    """What must be known to read the figures."""
    text = CONDITIONS.format(
        cores=os.cpu_count(),
        filesystem=filesystem(bench.folder),
        rounds=bench.rounds,
        at_once=mirrors.AT_ONCE,
    )
    return text + QUICK if bench.size is rounds.QUICK else text


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if not unit:  # a count
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _ratio(row: Row) -> str:
    if row.ratio is None or row.ratio_range is None or not row.line.bar.of_ratio:
        return "-"
    least, greatest = row.ratio_range
    return f"{row.ratio:.2f} x ({least:.2f}-{greatest:.2f})"


def _cells(row: Row) -> tuple[str, ...]:
    unit = row.line.unit
    verdict = {True: "reached", False: "missed", None: ""}[row.is_reached]
    bar = str(row.line.bar) + ("" if row.line.bar.of_ratio else f" {unit}")
    shown = (servers.HOMEPORT, row.line.peer, servers.REGISTRY3, servers.NULL)
    return (row.line.work, *(_figure(row.median(name), unit) for name in shown), _ratio(row), bar, verdict)


def table(rows: Iterable[Row]) -> str:
    """One line a row, in columns; below it what else there is to say, and why some could not be measured."""
    rows = list(rows)
    cells = [HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in cells)
    ]
    notes = [f"\n{row.line.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*(line.rstrip() for line in lines), *notes, *_failures(rows)])


def _failures(rows: Iterable[Row]) -> list[str]:
    """What could not be measured: each reason once, with the lines that it left empty."""
    affected: dict[str, list[str]] = {}
    for row in rows:
        for name, why in row.failures.items():
            affected.setdefault(f"{name}: {why}", []).append(row.line.name)
    return [f"\n{', '.join(names)}: not measured: {why}" for why, names in affected.items()]
