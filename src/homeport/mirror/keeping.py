"""Writing down beside the data folder what is mirrored and followed, so that an empty registry refills itself.

Holds: the file lies outside of what it is to bring back; a run whose file could not be written, or is too long to be
of use, says so and is none the worse. A file that names images which the new one lacks is kept beside it (`.before`): a
registry that begins anew does not overwrite what says what it is to become.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from homeport.config.mirroring import Mirror
from homeport.config.settings import Settings
from homeport.db.database import Transaction
from homeport.mirror import exporting, holdings, origins
from homeport.mirror.exporting import Export
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry
from homeport.storage import textfile

_PAGE: Final = 1_000


def place(settings: Settings) -> Path:
    """Where the file is."""
    data = settings.data.absolute()
    return settings.mirror.export or data.with_name(f"{data.name}.mirror.yaml")


async def write(registry: Registry, settings: Settings) -> str | None:
    """Write it; why it is of no use, if it is not."""
    export = await registry.db.read(exported, settings.mirror)
    if export.is_empty:
        return None
    threads = registry.clock.threads("mirror-export", 1)
    try:
        return await threads.run(_replace, place(settings), export.text())
    except OSError as error:
        return f"{place(settings)} cannot be written: {error.strerror}"
    except UnicodeDecodeError:
        return f"{place(settings)} is no text, so it is none of ours and stays as it is"
    finally:
        threads.close()


def _replace(path: Path, text: str) -> str | None:
    old = textfile.read(path)
    if old is not None and not _images(old) <= _images(text):
        textfile.replace(path.with_name(f"{path.name}.before"), old)
    if old != text:
        textfile.replace(path, text)
    why = exporting.why_too_long(text)
    return f"{path} {why}" if why else None


def _images(text: str) -> set[str]:
    lines = (line.strip().removeprefix("- ") for line in text.splitlines())
    return {line for line in lines if line.startswith(("source:", "name:"))}


def exported(tx: Transaction, mirror: Mirror) -> Export:
    """What the configuration says, and what is here as it came from upstreams. What was pushed over it is not."""
    export = Export(mirror)
    after, repository = ("", ""), ""
    here: Mapping[str, Digest] = {}
    while page := origins.page(tx, after, _PAGE):
        for each in page:
            if each.repository != repository:
                repository, here = each.repository, holdings.tags(tx, each.repository)
            if here.get(each.tag) == each.digest:
                export.add(each)
        after = (page[-1].repository, page[-1].tag)
    return export
