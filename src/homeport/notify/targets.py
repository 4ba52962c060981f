"""Who is told of what: targets as the configuration names them, and which events are theirs. Decisions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, Final

from homeport.config import settings as config
from homeport.config.errors import ConfigError, Problem
from homeport.config.references import SecretReference
from homeport.config.urls import read_urls
from homeport.events import Event
from homeport.oci import patterns

#: What distribution's envelope can tell, and its words for it.
ENVELOPE_ACTIONS: Final[Mapping[str, str]] = {
    "blob.pushed": "push",
    "blob.mounted": "mount",
    "blob.deleted": "delete",
    "manifest.pushed": "push",
    "manifest.deleted": "delete",
    "tag.set": "push",
    "tag.deleted": "delete",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who is told what happens."""

    name: str
    #: Where to send it, or where that is written.
    url: str | SecretReference = field(repr=False)
    #: Patterns of event kinds, and of repositories (none: every one).
    on: tuple[str, ...]
    repositories: tuple[str, ...] = ()
    format: str = "auto"
    method: str | None = None
    secret: SecretReference | None = None
    headers: Mapping[str, SecretReference] = field(default_factory=dict)
    timeout_seconds: float = 15.0
    #: The file that the address is from, if it is from one; then it is not shown.
    file: str | None = None

    @property
    def hides_url(self) -> bool:
        """Whether the address is a secret: only one that stands in the configuration itself is none."""
        return self.file is not None or isinstance(self.url, SecretReference)

    def told(self) -> dict[str, Any]:
        """The target as JSON has it: where its secrets are, never what."""
        return {
            "name": self.name,
            "url": self.file or str(self.url),
            "on": list(self.on),
            "repositories": list(self.repositories),
            "format": self.format,
            "method": self.method,
            "secret": None if self.secret is None else str(self.secret),
            "headers": {name: str(reference) for name, reference in self.headers.items()},
        }


def targets_of(notify: Mapping[str, config.Target]) -> list[Target]:
    """The targets of the configuration; of a `urls_file` each address, as NAME/1, NAME/2, ... Raises `ConfigError`."""
    found: list[Target] = []
    problems = []
    for name, target in notify.items():
        if target.urls_file is None:
            assert target.url is not None
            found.append(_target(name, target, target.url))
            continue
        try:
            urls = read_urls(target.urls_file)
        except ValueError as error:
            problems.append(Problem(f"notify.{name}.urls_file", str(error)))
            continue
        file = str(target.urls_file)
        found += [_target(f"{name}/{number}", target, url, file) for number, url in enumerate(urls, start=1)]
    if problems:
        raise ConfigError(problems)
    return found


def _target(name: str, target: config.Target, url: str | SecretReference, file: str | None = None) -> Target:
    return Target(
        name,
        url,
        target.on,
        target.repositories,
        target.format,
        target.method,
        target.secret,
        target.headers,
        target.timeout_seconds,
        file,
    )


def matches(target: Target, event: Event) -> bool:
    """Whether the target is to be told of the event."""
    if not any(fnmatchcase(event.kind, pattern) for pattern in target.on):
        return False
    if target.format == "distribution" and event.kind not in ENVELOPE_ACTIONS:
        return False
    if event.kind == "delivery.given_up" and (event.detail or {}).get("target") == target.name:
        return False  # It would be given up as well, for ever.
    if event.repository is None or not target.repositories:
        return True
    return any(patterns.matches(pattern, event.repository) for pattern in target.repositories)


def chosen(target: Target, events: Sequence[Event]) -> list[Event]:
    """Those of `events`, which follow one another in the log, that the target is to be told of.

    What was pushed by tag wrote two events; distribution tells it as one, with the tag.
    """
    found = [event for event in events if matches(target, event)]
    if target.format != "distribution":
        return found
    told_with_tag = {event.id for event, after in pairwise(found) if _is_push_by_tag(event, after)}
    return [event for event in found if event.id not in told_with_tag]


def _is_push_by_tag(event: Event, after: Event) -> bool:
    if (event.kind, after.kind) != ("manifest.pushed", "tag.set"):
        return False
    return (event.run, event.repository, event.digest) == (after.run, after.repository, after.digest)
