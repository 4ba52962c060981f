"""Writing down beside the data folder what is mirrored and followed, so that an empty registry refills itself.

Holds: the file lies outside of what it is to bring back; a run whose file could not be written says so and is none the
worse. A file that names images which the new one lacks is kept beside it (`.before`): a registry that begins anew does
not overwrite what says what it is to become.
"""

from __future__ import annotations

from pathlib import Path

from homeport.config import settings as config
from homeport.db.database import Transaction
from homeport.mirror import exporting, holdings, origins, remaining
from homeport.mirror.addresses import Source
from homeport.mirror.exporting import Mirrored
from homeport.registry.registry import Registry
from homeport.storage import textfile


def place(settings: config.Settings) -> Path:
    """Where the file is."""
    data = settings.data.absolute()
    return settings.mirror.export or data.with_name(f"{data.name}.mirror.yaml")


async def write(registry: Registry, settings: config.Settings) -> str | None:
    """Write it; why that was not possible, if it was not."""
    found = await registry.db.read(mirrored)
    if not found:
        return None
    threads = registry.clock.threads("mirror-export", 1)
    try:
        await threads.run(_replace, place(settings), exporting.text(found))
    except OSError as error:
        return f"{place(settings)} cannot be written: {error.strerror}"
    finally:
        threads.close()
    return None


def _replace(path: Path, text: str) -> None:
    old = textfile.read(path)
    if old is not None and not _sources(old) <= _sources(text):
        textfile.replace(path.with_name(f"{path.name}.before"), old)
    if old != text:
        textfile.replace(path, text)


def _sources(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if "source:" in line}


def mirrored(tx: Transaction) -> list[Mirrored]:
    """What is mirrored and followed: what is here, and what a run could not copy yet. What the cache fetched is not."""
    found: dict[tuple[str, Source], list[str]] = {}
    here: dict[str, set[str]] = {}
    after = ("", "")
    while page := origins.page(tx, after, 1_000):
        for each in page:
            if each.found_by == "cache":
                continue
            tags = here.setdefault(each.repository, set())
            if not tags:
                tags |= holdings.tags(tx, each.repository).keys()
            if each.tag in tags:
                found.setdefault((each.repository, each.source), []).append(each.tag)
        after = (page[-1].repository, page[-1].tag)
    for copy in remaining.every(tx, 100_000):
        if copy.tag not in here.get(copy.repository, ()):
            found.setdefault((copy.repository, copy.source), []).append(copy.tag)
    return [Mirrored(repository, source, tuple(tags)) for (repository, source), tags in found.items()]
