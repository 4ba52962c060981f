"""What is mirrored and followed, written down so that an empty registry refills itself by it.

Pure. Holds: the images of the configuration stand in it as they are written, so all that decides what comes is carried;
what is here beyond them is listed by its tags. The same content gives the same text, whatever the order in which it
comes; the text is a configuration as `homeport config check` takes it, and no secret is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from homeport.config.document import BYTES_MAX, NODES_MAX, Document, DocumentError
from homeport.config.mirroring import Mirror
from homeport.mirror import plan, rules
from homeport.mirror.addresses import Source
from homeport.mirror.origins import TagOrigin
from homeport.mirror.translation import named_apart
from homeport.oci import companions, patterns

_HEAD: Final = """\
# What is mirrored here, and followed: the images of the configuration as it has them, and what is here beyond them.
# An empty registry refills itself by it: put it in the place of 'mirror' in homeport.yaml, or start with it as the
# configuration, and let `homeport mirror run` fetch everything. A 'minimum_age' counts from the first run there.
# How upstreams are asked ('upstreams', with where the passwords are) is not in it, nor is what was pushed here: that is
# what a backup is for.
"""
_BEYOND_HEAD: Final = "\n    # Beyond what those mean: what is followed, or kept although no image means it any more."
#: Keys of an image that say which tags come from where to where; the others say what comes with each.
_WHICH: Final = ("source", "name", "target", "tags")
#: Nothing is said of what comes with a tag: all of it does.
_NOTHING: Final = "{}"
#: `export` is where this registry writes: another one must leave that file alone.
_NOT_SETTINGS: Final = ("images", "export")
#: Characters that YAML takes for line breaks or not at all, and others that few editors show.
_ODD: Final = re.compile(r"[^\x20-\x7e]")
#: What is shorter has fewer values than a configuration may have.
_SHORT_CHARACTERS: Final = 3 * NODES_MAX
_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class Export:
    """The file in the making: what the configuration says, and what is added to it."""

    def __init__(self, mirror: Mirror) -> None:
        self._said = _said(mirror)
        self._skip = mirror.skip
        self._rules = {rule.label: rule for rule in rules.of(mirror)}
        #: What each image says of what comes with a tag, as JSON.
        self._with_it = {image.label: _with_it(_said(image)) for image in mirror.images}
        graces = mirror.follow and mirror.gone_upstream is not None
        self._with_followed = _with_it({"gone_upstream": self._said["gone_upstream"]} if graces else {})
        #: The tags that no image means, by their source, our repository and what comes with them.
        self._beyond: dict[tuple[Source, str, str], set[str]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is mirrored or followed."""
        return not self._rules and not self._beyond

    def add(self, origin: TagOrigin) -> None:
        """A tag is here. It is listed if an empty registry would not get it by what the configuration says."""
        if not self._has_to_be_listed(origin):
            return
        with_it = self._with_followed if origin.image is None else self._with_it.get(origin.image, _NOTHING)
        self._beyond.setdefault((origin.source, origin.repository, with_it), set()).add(origin.tag)

    def text(self) -> str:
        """All of it. It is written by hand: there may be many tags, and a run waits for it."""
        settings = "".join(
            f"\n  {key}: {_flow(value)}" for key, value in self._said.items() if key not in _NOT_SETTINGS
        )
        entries = "".join(map(_entry, self._said.get("images", ())))
        if self._beyond:
            entries += _BEYOND_HEAD + "".join(map(_entry, self._listed()))
        return f"{_HEAD}mirror:{settings}\n  images:{entries or ' []'}\n"

    def _has_to_be_listed(self, origin: TagOrigin) -> bool:
        # What upstream has no more can't be fetched; what belongs to an image comes with it.
        if origin.found_by == "cache" or origin.leaving in plan.GONE or companions.subject(origin.tag) is not None:
            return False
        if any(patterns.matches(each, origin.repository) for each in self._skip):
            return False
        rule = self._rules.get(origin.image or "")
        return rule is None or origin.leaving is not None or not rule.brings(origin)

    def _listed(self) -> Iterable[Mapping[str, Any]]:
        entries = [
            {"source": str(source), "target": repository, "tags": {"list": sorted(tags)}, **json.loads(with_it)}
            for (source, repository, with_it), tags in sorted(self._beyond.items())
        ]
        return named_apart(entries, self._rules)


def why_too_long(text: str) -> str | None:
    """Why no registry takes the file, where thousands of tags are listed; None: it does."""
    if len(text) <= _SHORT_CHARACTERS:
        return None
    why = f"is larger than {BYTES_MAX // 1024**2} MiB" if len(text) > BYTES_MAX else None
    if why is None:
        try:
            Document(text)
        except DocumentError as error:
            why = error.message
    return f"{why}, which no configuration may be; let images of 'mirror' mean what is listed" if why else None


def _said(section: BaseModel) -> dict[str, Any]:
    """What the configuration says of it, without what holds by itself."""
    return section.model_dump(mode="json", exclude_unset=True)


def _with_it(image: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in image.items() if key not in _WHICH})


def _entry(image: Mapping[str, Any]) -> str:
    keys = [*(key for key in _WHICH if key in image), *(key for key in image if key not in _WHICH)]
    return "\n    - " + "\n      ".join(f"{key}: {_flow(image[key])}" for key in keys)


def _flow(value: Any) -> str:
    """A value on one line of YAML. No text is taken for a number, nor a number for a text."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str():
            quoted = json.dumps(value, ensure_ascii=False)
            return _ODD.sub(lambda found: f"\\U{ord(found[0]):08x}", quoted)
        case float():
            return _duration(value)
        case _:
            return json.dumps(value)


def _duration(seconds: float) -> str:
    """As people write it, such as `14d`. To the millisecond: no age is more exact."""
    unit = next((unit for unit, length in _UNITS.items() if seconds % length == 0), None)
    return f"{seconds:.3f}" if unit is None else f"{seconds // _UNITS[unit]:.0f}{unit}"
