"""What the `client:` section of the configuration means to this package.

Holds: plain values, and the decisions that follow from them alone. A host is written as in image references: `host` or
`host:port`, an IPv6 address in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from homeport.client import trust
from homeport.config import settings as config


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
    #: Each by its host.
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    #: The HTTP proxy that every call goes through, but for those to `direct` hosts and to this machine.
    proxy: URL | None = None
    #: Hosts that are called without the proxy, with all whose names end in theirs.
    direct: tuple[str, ...] = ()
    connect_seconds: float = 15.0
    #: Longest time without a byte moving, either way.
    silence_seconds: float = 60.0
    #: Longest time for an answer that is small by its nature: a manifest, a token, a page of tags.
    answer_seconds: float = 120.0
    #: Longest wait for the answer that closes an upload: some registries copy the whole blob before they give it.
    commit_seconds: float = 900.0

    @classmethod
    def of(cls, client: config.Client) -> ClientSettings:
        """The section as it was read."""
        return cls(
            ca=client.ca,
            hosts={
                _key(name): HostSettings(one.ca, one.insecure, tuple(map(_key, one.realms)))
                for name, one in client.hosts.items()
            },
            proxy=URL(client.proxy) if client.proxy else None,
            direct=tuple(map(_key, client.direct)),
        )

    def named(self, url: URL) -> HostSettings | None:
        """What is said of this host and port, else of this host; None if neither is named."""
        host = trust.written_host(url)
        return self.hosts.get(f"{host}:{url.port}") or self.hosts.get(host)

    def host(self, url: URL) -> HostSettings:
        """The same, and the defaults for a host that is not named."""
        return self.named(url) or HostSettings()

    def allows(self, url: URL) -> bool:
        """Whether this host may be called, wherever it is, although another host sent us there."""
        if self.named(url) is not None:
            return True
        return any(trust.is_among(url, host.realms) for host in self.hosts.values())

    def proxy_for(self, url: URL) -> URL | None:
        """The proxy to call `url` through, if any."""
        host = trust.written_host(url)
        if self.proxy is None or trust.is_loopback(host):
            return None
        if trust.is_among(url, self.direct) or any(host.endswith(f".{name}") for name in self.direct):
            return None
        return self.proxy


def _key(name: str) -> str:
    url = URL(f"https://{name}")
    host = trust.written_host(url)
    return host if url.explicit_port is None else f"{host}:{url.explicit_port}"
