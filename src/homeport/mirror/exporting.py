"""What is mirrored and followed, written down so that an empty registry refills itself by it.

Pure. Holds: the same content gives the same text, whatever the order in which it comes; what is written is a
configuration as `homeport config check` takes it, and no secret is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from homeport.mirror.addresses import Source
from homeport.mirror.translation import named_apart

_HEAD = """\
# What is mirrored here, and followed: every image with its tags, its upstream, and where it is put.
# An empty registry refills itself by it: put it in the place of 'mirror' in homeport.yaml, or start with it as the
# configuration, and let `homeport mirror run` fetch everything. How upstreams are asked ('upstreams', with where the
# passwords are) is not in it, nor is what was pushed here: that is what a backup is for.
"""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A repository of ours that comes from another registry."""

    #: Its name here.
    repository: str
    source: Source
    tags: tuple[str, ...]


def text(mirrored: Iterable[Mirrored]) -> str:
    """All of it as a file. It is written by hand: there may be many tags, and a run waits for it."""
    merged: dict[tuple[str, str], set[str]] = {}
    for each in mirrored:
        merged.setdefault((str(each.source), each.repository), set()).update(each.tags)
    images: list[dict[str, Any]] = [
        {"source": source, "target": repository, "tags": sorted(tags)}
        for (source, repository), tags in sorted(merged.items())
        if tags
    ]
    return _HEAD + "mirror:\n  images:" + ("".join(map(_entry, named_apart(images))) or " []") + "\n"


def _entry(image: Mapping[str, Any]) -> str:
    # A text or a list of JSON is one of YAML, too, and no tag is taken for a number.
    lines = [f"{key}: {json.dumps(image[key])}" for key in ("source", "name", "target") if key in image]
    lines.append(f"tags: {{list: {json.dumps(image['tags'])}}}")
    return "\n    - " + "\n      ".join(lines)
