"""A configuration in the making: what another tool's file says, put together in our form.

Pure. Holds: what comes out is what `homeport config check` takes, since each part is tried with the settings' own types
as it comes in; what they refuse is told with its place. No value that may be a secret is repeated.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError

from homeport.client.redaction import plain_text
from homeport.config.document import Location
from homeport.config.mirroring import MirroredImage, TagSelection, Upstream
from homeport.config.settings import ClientHost
from homeport.config.tree import written
from homeport.oci.errors import RegistryError
from homeport.oci.reference import Reference

#: The most that is told of one file: beyond it, only how much more there is.
REMARKS_MAX: Final = 1000

#: Which no name may be.
_EVERYBODY = "anonymous"
_YES = ("true", "yes", "on")
_NO = ("false", "no", "off")
_FLAGS_IN_FRONT = re.compile(r"\(\?[ims]+\)")

#: Conditions as `mirror.images[].tags` has them; none: all tags.
Conditions: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about a place of the file."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(slots=True)
class _Image:
    source: str
    target: str
    options: dict[str, Any]
    #: The tags that are named, in their order.
    named: dict[str, None] = field(default_factory=dict)
    #: Each by its text, so that the same is not said twice.
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def selections(self) -> list[dict[str, Any]]:
        """What `tags` says, once for each image that it takes to say it."""
        named = {"list": list(self.named)} if self.named else {}
        if not self.conditions:
            return [named]
        first, *others = self.conditions.values()
        if not all((first, *others)):
            return [{}]
        return [named | first, *others]


class Draft:
    """What was taken over so far, and what could not be."""

    def __init__(self, where: Callable[[Location], str]) -> None:
        """`where` says a place of the file as people find it."""
        self._where = where
        self._images: dict[str, _Image] = {}
        self._upstreams: dict[str, dict[str, Any]] = {}
        self._hosts: dict[str, dict[str, Any]] = {}
        self._remarks: dict[str, dict[str, Remark]] = {"lost": {}, "notes": {}}
        self.schedule: str | None = None
        self.skip: dict[str, None] = {}

    @property
    def lost(self) -> list[Remark]:
        """What could not be carried over."""
        return list(self._remarks["lost"].values())

    @property
    def notes(self) -> list[Remark]:
        """What is done in another way here."""
        return list(self._remarks["notes"].values())

    @property
    def images(self) -> int:
        return len(self._images)

    def lose(self, location: Location, text: str) -> None:
        """Tell that something is not carried over, and what to do about it."""
        remark = Remark(self._where(location), plain_text(text))
        self._remark("lost", str(remark), remark)

    def note(self, location: Location, text: str) -> None:
        """Tell that something is done in another way. The same is told once for the whole file."""
        self._remark("notes", text, Remark(self._where(location), plain_text(text)))

    def _remark(self, kind: str, key: str, remark: Remark) -> None:
        remarks = self._remarks[kind]
        if len(remarks) < REMARKS_MAX:
            remarks.setdefault(key, remark)
        elif len(remarks) == REMARKS_MAX:
            remarks[""] = Remark("further on", "there is more of the kind, which is not listed")

    def add(
        self,
        location: Location,
        source: str,
        target: str,
        tags: Iterable[str] = (),
        conditions: Conditions | None = None,
        **options: Any,
    ) -> bool:
        """Mirror these tags, or (with `conditions`) those that they mean; whether it could be taken over."""
        named = list(tags)
        wanted = dict(conditions or {})
        selection = ({"list": named} if named else {}) | wanted
        tried = self._tried(location, MirroredImage, {"source": source, "target": target, "tags": selection} | options)
        if not isinstance(tried, MirroredImage):
            return False
        key = repr((tried.source, target, sorted(options.items())))
        image = self._images.setdefault(key, _Image(tried.source, target, options))
        image.named.update(dict.fromkeys(named))
        if conditions is not None:
            image.conditions.setdefault(repr(wanted), wanted)
        return True

    def upstream(self, location: Location, host: str, **values: Any) -> None:
        """Say how a registry is asked."""
        if (known := self.host(location, host)) is not None and self._tried(location, Upstream, values) is not None:
            self._upstreams.setdefault(known, {}).update(values)

    def keep_reserve(self, location: Location, host: str, pulls: int) -> None:
        """Leave so many pulls of the registry's quota, or more where more was said before."""
        if (known := self.host(location, host)) is not None:
            before = self._upstreams.get(known, {}).get("reserve", 0)
            self.upstream(location, known, reserve=max(pulls, before))

    def call(self, location: Location, host: str, **values: Any) -> None:
        """Say what holds for every call to a host: `insecure`, `ca`."""
        if (known := self.host(location, host)) is not None and self._tried(location, ClientHost, values) is not None:
            self._hosts.setdefault(known, {}).update(values)

    def host(self, location: Location, text: str) -> str | None:
        """The registry's host as references have it. What is none is told."""
        try:
            if _is_host(text):
                return Reference.parse(f"{text}/library/x").host
        except RegistryError:
            pass
        self.lose(location, "is not the host of a registry, such as quay.io or registry.lan:5000")
        return None

    def reference(self, location: Location, text: str) -> Reference | None:
        """The image that is meant. What is none is told."""
        try:
            return Reference.parse(text)
        except RegistryError as error:
            self.lose(location, f"'{text[:160]}' is not the name of an image: {error}")
            return None

    def expression(self, location: Location, text: str, form: str) -> str | None:
        """A regular expression of Go, put into `form`. What Python reads in another way is told."""
        found = _FLAGS_IN_FRONT.match(text)
        flags = found[0] if found else ""  # Python has them only there.
        result = flags + form.format(text.removeprefix(flags))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                re.compile(result)
            except (re.error, RecursionError, OverflowError, Warning):
                self.lose(location, f"'{text[:160]}' is an expression that Go's regular expressions have and ours lack")
                return None
        return result if self._tried(location, TagSelection, {"match": [result]}) is not None else None

    def range(self, location: Location, text: str) -> str | None:
        """A range of versions. What is none here is told."""
        return text if self._tried(location, TagSelection, {"semver": text}) is not None else None

    def _tried(self, location: Location, model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel | None:
        try:
            return model.model_validate(values)
        except ValidationError as refused:
            for error in refused.errors(include_input=False)[:10]:
                why = error.get("ctx", {}).get("error") or error["msg"]
                self.lose(location, f"{written(error['loc'])} {why}".strip())
            return None

    def configuration(self) -> dict[str, Any]:
        """The sections of our configuration that say all this."""
        entries = [
            {"source": image.source, "target": image.target, **image.options} | ({"tags": tags} if tags else {})
            for image in self._images.values()
            for tags in image.selections()
        ]
        mirror: dict[str, Any] = {"schedule": self.schedule} if self.schedule else {}
        if self.skip:
            mirror["skip"] = list(self.skip)
        mirror["images"] = named_apart(entries)
        sections: dict[str, Any] = {"upstreams": self._upstreams} if self._upstreams else {}
        sections["mirror"] = mirror
        return sections | ({"client": {"hosts": self._hosts}} if self._hosts else {})


def named_apart(images: Iterable[Mapping[str, Any]], others: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The same images; those that share a source have a name each, as the configuration wants it.

    `others` are what images beside these are called.
    """
    images, others = list(images), set(others)
    shared = Counter(image["source"] for image in images)
    shared.update(others)
    used: Counter[str] = Counter()
    taken = {_EVERYBODY, *others}
    result = []
    for image in images:
        if shared[image["source"]] == 1:
            result.append(dict(image))
            continue
        stem = re.sub(r"[^a-z0-9._-]+", "-", _placed(image["target"], image["source"])).strip("-._")[:100] or "image"
        name = stem
        while name in taken:
            used[stem] += 1
            name = f"{stem}-{used[stem] + 1}"
        taken.add(name)
        result.append({"name": name, **image})
    return result


def _placed(template: str, source: str) -> str:
    """Where a source is put; a pattern of sources has its stars in it."""
    host, _, repository = source.partition("/")
    namespace, _, name = repository.rpartition("/")
    return template.format(host=host, repository=repository, namespace=namespace, name=name)


def _is_host(text: str) -> bool:
    return "/" not in text and ("." in text or ":" in text or text == "localhost")


@dataclass(frozen=True, slots=True)
class Part:
    """A map of the file, read without trust: what is of another kind than it must be is told, and not there."""

    draft: Draft
    location: Location
    values: Mapping[str, Any]
    #: Where what is not here is looked up.
    behind: Part | None = None

    def _holder(self, key: str) -> Part:
        return self.behind if self.behind is not None and self.values.get(key) is None else self

    def has(self, key: str) -> bool:
        """Whether something stands there."""
        return self._holder(key).values.get(key) is not None

    def says(self, key: str) -> bool:
        """Whether something stands there that is not false."""
        return self.has(key) and self._holder(key).values[key] not in _NO

    def place(self, key: str) -> Location:
        """Where it stands."""
        holder = self._holder(key)
        return (*holder.location, key) if key in holder.values else holder.location

    def lose(self, key: str, text: str) -> None:
        self.draft.lose(self.place(key), text)

    def note(self, key: str, text: str) -> None:
        self.draft.note(self.place(key), text)

    def text(self, key: str) -> str | None:
        """Its text, None where there is none."""
        value = self._holder(key).values.get(key)
        if value is None or isinstance(value, str):
            return value or None
        self._odd(key, "must be text")
        return None

    def texts(self, key: str) -> list[tuple[Location, str]] | None:
        """The texts of a list, each with its place. One alone is a list of one; None: it is something else."""
        value = self._holder(key).values.get(key)
        if value is None:
            return []
        if isinstance(value, str):
            return [(self.place(key), value)]
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._odd(key, "must be a list of texts")
            return None
        return [((*self.place(key), index), each) for index, each in enumerate(value)]

    def flag(self, key: str) -> bool | None:
        """True or false, None where neither is said."""
        text = (self.text(key) or "").lower()
        if not text or text in (*_YES, *_NO):
            return text in _YES if text else None
        self._odd(key, "must be true or false")
        return None

    def number(self, key: str) -> float | None:
        """A number from 0 on, None where there is none."""
        text = self.text(key)
        if text is None or re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            return float(text) if text else None
        self._odd(key, "must be a number")
        return None

    def part(self, key: str) -> Part | None:
        """The map below a key, an empty one where there is none; None: it is something else."""
        value = self._holder(key).values.get(key)
        if value is not None and not isinstance(value, dict):
            self._odd(key, "must be a map")
            return None
        return Part(self.draft, self.place(key), value or {})

    def parts(self, key: str) -> list[Part]:
        """The maps of a list."""
        value = self._holder(key).values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self._odd(key, "must be a list")
            return []
        found = []
        for index, each in enumerate(value):
            here = (*self.place(key), index)
            if isinstance(each, dict):
                found.append(Part(self.draft, here, each))
            else:
                self.draft.lose(here, "must be a map")
        return found

    def expect(self, known: Iterable[str]) -> None:
        """Tell of the keys that are none of these."""
        for key in self.values.keys() - set(known):
            if not key.startswith("x-"):
                self.draft.lose((*self.location, key), "is not known here, so it is not carried over")

    def _odd(self, key: str, text: str) -> None:
        self.draft.lose(self.place(key), f"{text}, so it is not carried over")
