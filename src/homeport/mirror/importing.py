"""The mirrors of other tools, in our form: `mirror.json`, `regsync.yaml`, and the YAML of `skopeo sync`.

Source: 01-edu/registry, `mirror.json`; regclient, `regsync` configuration, version 1; skopeo-sync(1).

Pure. Holds: which form a file has is seen by what is in it; images land under the names that the tool gave them; what
cannot be carried over is told with its place and what to do, and nothing of it is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

from homeport.config.document import DEPTH_MAX, Document, DocumentError, Location
from homeport.config.tree import written
from homeport.mirror import regsync
from homeport.mirror.translation import Draft, Part, Remark

BYTES_MAX: Final = 1024 * 1024
ENTRIES_MAX: Final = 20_000

MIRROR_JSON: Final = "mirror.json"
REGSYNC: Final = "regsync"
SKOPEO: Final = "skopeo sync"

#: Takes over what stands at a repository: the map, its key there, the source, the target.
_Taker: TypeAlias = Callable[[Part, str, str, str], None]

#: Where `skopeo sync` puts an image, unless `--scoped` says that the whole name is kept.
SHORT_NAME: Final = "{name}"

_SKOPEO_IMAGES = ("images", "images-by-tag-regex", "images-by-semver")
_SKOPEO_KEYS = (*_SKOPEO_IMAGES, "credentials", "tls-verify", "cert-dir")


class ImportRefused(Exception):
    """The file is none of those that are known; the text says why."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file says, in our form."""

    form: str
    #: Sections of `homeport.yaml`.
    configuration: Mapping[str, Any]
    images: int
    #: What could not be carried over.
    lost: list[Remark]
    #: What is done in another way here.
    notes: list[Remark]

    def text(self) -> str:
        """The sections as people put them into `homeport.yaml`."""
        written_out: str = yaml.safe_dump(
            dict(self.configuration), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
        )
        return written_out


def read(text: str, *, skopeo_target: str = SHORT_NAME) -> Imported:
    """What the file says. `skopeo_target`: where images of `skopeo sync` go. Raises `ImportRefused`."""
    if text.lstrip("\ufeff \t\r\n").startswith("["):
        form, draft = MIRROR_JSON, Draft(_entry)
        _take_list(draft, _json(text))
    else:
        document = _yaml(text)
        draft = Draft(lambda location: _line(document, location))
        values = _merged(document.value)
        form = _form_of(values)
        if form == REGSYNC:
            regsync.take(draft, values)
        else:
            _take_skopeo(draft, values, skopeo_target)
    return Imported(form, draft.configuration(), draft.images, draft.lost, draft.notes)


def _json(text: str) -> list[Any]:
    try:
        found = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else "is nested too deep, or has a number too long"
        raise ImportRefused(f"is no JSON: {why}") from None
    if len(found) > ENTRIES_MAX:
        raise ImportRefused(f"has more than {ENTRIES_MAX} entries")
    return list(found)


def _yaml(text: str) -> Document:
    try:
        return Document(text.lstrip("\ufeff"), literal=True)
    except DocumentError as error:
        place = f"line {error.line}: " if error.line else ""
        raise ImportRefused(f"{place}{error.message}") from None


def _merged(value: Any, depth: int = 0) -> Any:
    """`value` with what `<<` puts into its maps, which stand there behind their own keys."""
    if depth > DEPTH_MAX:
        raise ImportRefused(f"is nested more than {DEPTH_MAX} deep")
    if isinstance(value, list):
        return [_merged(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    merged: dict[str, Any] = {}
    for each in reversed(found if isinstance(found := value.get("<<"), list) else [found]):
        if isinstance(each, dict):
            merged |= _merged(each, depth + 1)
    return merged | {key: _merged(below, depth + 1) for key, below in value.items() if key != "<<"}


def _form_of(values: Any) -> str:
    if not isinstance(values, dict) or not values:
        raise ImportRefused("is neither a mirror.json, nor a regsync.yaml, nor a file of skopeo sync")
    if regsync.is_one(values):
        return REGSYNC
    if "mirror" in values or "upstreams" in values:
        raise ImportRefused("is a configuration of Homeport already; `homeport config check` says whether it is right")
    if any(isinstance(below, dict) and below.keys() & {*_SKOPEO_IMAGES} for below in values.values()):
        return SKOPEO
    raise ImportRefused(
        "is neither a mirror.json (a list of images), nor a regsync.yaml (with 'sync'), nor a file of skopeo sync"
        " (hosts with 'images')"
    )


def _entry(location: Location) -> str:
    return f"entry {int(location[0]) + 1}"


def _line(document: Document, location: Location) -> str:
    place = written(location) or "the file"
    line = document.line(location)
    return f"line {line}: {place}" if line else place


# --- mirror.json ------------------------------------------------------------------------------------------------


def _take_list(draft: Draft, entries: list[Any]) -> None:
    """Images as docker names them. Here each has the name that `docker push` gave it."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, str):
            draft.lose((index,), 'must be text, such as "alpine:3.20"')
            continue
        name = entry.strip()
        reference = draft.reference((index,), name)
        if reference is None:
            continue
        if reference.digest is not None:
            draft.lose((index,), f"'{name}' is a digest, which never changes; copy it once with `homeport copy`")
            continue
        tag, host = str(reference.tag), name.partition("/")[0]
        target = "{host}/{repository}" if host == reference.host else name.removesuffix(f":{tag}")
        draft.add((index,), f"{reference.host}/{reference.repository}", target, [tag])


# --- skopeo sync ------------------------------------------------------------------------------------------------


def _take_skopeo(draft: Draft, values: Mapping[str, Any], target: str) -> None:
    file = Part(draft, (), values)
    draft.note((), "all platforms of an image are mirrored, as `skopeo sync --all` does; 'platforms' says which ones")
    draft.note(
        (), f"images are put at '{target}'; --target says another place, such as '{{host}}/{{repository}}' for --scoped"
    )
    for host in values:
        part, known = file.part(host), draft.host((host,), host)
        if part is None or known is None:
            continue
        part.expect(_SKOPEO_KEYS)
        for key in _SKOPEO_IMAGES:
            if (images := part.part(key)) is not None:
                _take_images(images, known, target, _TAKERS[key])
        _take_skopeo_access(part, known)


def _take_images(images: Part, host: str, target: str, take: _Taker) -> None:
    for repository in images.values:
        reference = images.draft.reference(images.place(repository), f"{host}/{repository}")
        if reference is not None:
            take(images, repository, f"{reference.host}/{reference.repository}", target)


def _take_named(images: Part, repository: str, source: str, target: str) -> None:
    tags = images.texts(repository)
    if tags == []:
        images.draft.add(images.place(repository), source, target, conditions={})
    for location, tag in tags or ():
        if ":" in tag:
            images.draft.lose(location, "is a digest, which never changes; copy it once with `homeport copy`")
        else:
            images.draft.add(location, source, target, [tag])


def _take_expression(images: Part, repository: str, source: str, target: str) -> None:
    place, text = images.place(repository), images.text(repository)
    if text and (expression := images.draft.expression(place, text, "{}")):
        images.draft.add(place, source, target, conditions={"match": [expression]})


def _take_range(images: Part, repository: str, source: str, target: str) -> None:
    if text := images.text(repository):
        images.draft.add(images.place(repository), source, target, conditions={"semver": text})


_TAKERS: Final[Mapping[str, _Taker]] = dict(
    zip(_SKOPEO_IMAGES, (_take_named, _take_expression, _take_range), strict=True)
)


def _take_skopeo_access(part: Part, host: str) -> None:
    if part.has("credentials"):
        part.lose(
            "credentials",
            "the password stands in the file; put it into one of its own, or a vault, and write"
            f" upstreams.{host}: {{username: ..., password: 'file:/path'}}",
        )
    if part.flag("tls-verify") is False:
        part.draft.call(part.place("tls-verify"), host, insecure=True)
    if part.has("cert-dir"):
        part.lose("cert-dir", f"write the file of the authority: client.hosts.{host}.ca: /path")
