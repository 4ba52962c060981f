"""Names: repositories, tags, and the references that people write.

Source: distribution-spec, "Pulling manifests"; Docker's normalisation of short names (`alpine` is
`docker.io/library/alpine:latest`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from homeport.oci.digest import Digest
from homeport.oci.errors import NameInvalid, TagInvalid

#: Many clients cap "host/name" at 255 characters; a longer name could be pushed by some and pulled by few.
REPOSITORY_CHARACTERS_MAX = 255

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)

_IMAGE_ID = re.compile(r"[0-9a-f]{64}")

DOCKER_HUB = "docker.io"
#: Docker Hub's own images stand below this name there.
LIBRARY = "library"


def is_repository(name: str) -> bool:
    """Whether `name` can be a repository's."""
    return len(name) <= REPOSITORY_CHARACTERS_MAX and _is_repository(name)


@lru_cache(maxsize=8192)
def _is_repository(name: str) -> bool:
    return _REPOSITORY.fullmatch(name) is not None


def check_repository(name: str) -> str:
    """`name`, or `NameInvalid`."""
    if not is_repository(name):
        raise NameInvalid(name[:160])
    return name


def is_tag(name: str) -> bool:
    """Whether `name` can be a tag's."""
    return _TAG.fullmatch(name) is not None


def check_tag(name: str) -> str:
    """`name`, or `TagInvalid`."""
    if not is_tag(name):
        raise TagInvalid(name[:160])
    return name


def hub_name(repository: str) -> str:
    """The repository's whole name at Docker Hub, where `alpine` is short for `library/alpine`."""
    return repository if "/" in repository else f"{LIBRARY}/{repository}"


@dataclass(frozen=True, slots=True)
class Reference:
    """`host/repository:tag@digest` as a person writes it; with neither tag nor digest, the tag is `latest`."""

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Docker's reading of `text`; `NameInvalid`, `TagInvalid` or `DigestInvalid` where it has none."""
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        tag: str | None = None
        if ":" in rest.rsplit("/", 1)[-1]:
            rest, _, tag_text = rest.rpartition(":")
            tag = check_tag(tag_text)
        host, slash, path = rest.partition("/")
        if not slash or not ("." in host or ":" in host or host == "localhost" or host != host.lower()):
            host, path = DOCKER_HUB, rest
            if _IMAGE_ID.fullmatch(path):
                raise NameInvalid(f"{text[:160]} is an image's id and not a name")
        if not _HOST.fullmatch(host):
            raise NameInvalid(text[:160])
        if host in ("index.docker.io", "registry-1.docker.io"):
            host = DOCKER_HUB
        if host == DOCKER_HUB:
            path = hub_name(path)
        check_repository(path)
        if tag is None and digest is None:
            tag = "latest"
        return cls(host, path, tag, digest)

    @property
    def target(self) -> str:
        """What a manifest is asked by: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"
