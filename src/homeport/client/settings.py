"""What the `client:` section of the configuration means to this package.

Holds: plain values; who reads them from which file is somebody else's affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What is special about one host."""

    #: A certificate authority (PEM) that is believed for this host, besides the system's and `ClientSettings.ca`.
    ca: Path | None = None
    #: Do not verify its certificate, and use plain http if it does not speak TLS.
    insecure: bool = False
    #: Hosts of token services that get the login for this registry although their names do not show that they may.
    realms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How we call other hosts."""

    #: Certificate authorities (PEM files) that are believed everywhere, besides the system's.
    ca: tuple[Path, ...] = ()
    #: By `host` or `host:port`, as it stands in image references.
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    connect_seconds: float = 15.0
    #: Longest time without a byte moving, either way.
    silence_seconds: float = 60.0
    #: Longest time for an answer that is small by its nature: a manifest, a token, a page of tags.
    answer_seconds: float = 120.0
    #: Longest wait for the answer that closes an upload: some registries copy the whole blob before they give it.
    commit_seconds: float = 900.0

    def named(self, url: URL) -> HostSettings | None:
        """What is said of this host and port, else of this host; None if neither is named."""
        name = url.host or ""
        return self.hosts.get(f"{name}:{url.port}") or self.hosts.get(name)

    def host(self, url: URL) -> HostSettings:
        """The same, and the defaults for a host that is not named."""
        return self.named(url) or HostSettings()
