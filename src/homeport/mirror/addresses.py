"""Names of other registries' repositories and of ours for them.

Pure. Holds: the repository of ours that an upstream's is cached under begins with the upstream's folder, which no other
upstream has; so nobody's name can be taken for another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from homeport.oci.reference import DOCKER_HUB, check_repository, hub_name

_FOLDER = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")


class Source(NamedTuple):
    """A repository of another registry. `host` is as in image names: `docker.io`, `registry.lan:5000`."""

    host: str
    repository: str

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


def folder(host: str) -> str | None:
    """The first part of our names for what is at `host`; None for a host that no name can begin with (IPv6)."""
    text = host.lower().replace(":", "_")
    return text if _FOLDER.fullmatch(text) else None


def folders(hosts: Iterable[str]) -> dict[str, str]:
    """The hosts by their folder."""
    return {name: host for host in hosts if (name := folder(host)) is not None}


def cached_at(source: Source) -> str:
    """Where the cache serves it. Raises `NameInvalid` for a host or a repository that has no such name."""
    return check_repository(f"{folder(source.host) or ''}/{source.repository}")


def cached_source(repository: str, hosts: Mapping[str, str]) -> Source | None:
    """What the repository of ours is the cache of, if it is below one of the folders in `hosts`."""
    first, slash, rest = repository.partition("/")
    host = hosts.get(first)
    if not slash or host is None:
        return None
    return Source(host, hub_name(rest) if host == DOCKER_HUB else rest)


def target(template: str, source: Source) -> str:
    """Where `template` puts it. Raises `NameInvalid` where that is no repository's name."""
    namespace, _, name = source.repository.rpartition("/")
    values = {
        "host": folder(source.host) or "",
        "repository": source.repository,
        "namespace": namespace,
        "name": name,
    }
    return check_repository(template.format(**values).strip("/"))


def guessed_source(repository: str, hosts: Mapping[str, str]) -> Source | None:
    """What a repository is by its name alone, as scripts named their copies: `alpine`, `org/x`, `quay.io/org/x`.

    None: it is nothing of Docker Hub's, nor of one of `hosts`, which are by their folders.
    """
    if (cached := cached_source(repository, hosts)) is not None:
        return cached
    first, slash, _ = repository.partition("/")
    if slash and ("." in first or first == "localhost"):
        return None  # Nobody is asked but hosts that the operator wrote: clients choose the names of what they push.
    if repository.count("/") > 1:
        return None  # Docker Hub has two parts.
    return Source(DOCKER_HUB, hub_name(repository))
