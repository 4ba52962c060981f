"""Who may be told a secret, and where another host may send us.

Pure. Holds:
- a token service ("realm") gets our login only if it belongs to the registry that named it: the same host, a parent or
  child of it, or its sibling under a name that one party owns (registry-1.docker.io and auth.docker.io); anything else
  has to be named in the configuration;
- what began as https never goes on as http;
- `Authorization` goes to the origin that it was made for and to no other;
- no host is the way into our network for another: an address that is not public is called only if a person wrote it.

A registry that names a stranger's token service is how logins were stolen from pull-through caches (distribution before
3.1.0) and from Python clients (CVE-2026-12566); `Authorization` that follows a redirect is CVE-2020-15157; a redirect
into the server's own network is CVE-2026-2376 (Quay).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from yarl import URL

from homeport.client.errors import BadAnswer, Untrusted
from homeport.client.redaction import plain_text, shown_url

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Python's own `is_global` changed its mind from one patch release to the next (CVE-2024-4032).
#: Not of the public internet. Source: IANA, "IPv4 Special-Purpose Address Registry"; 224.0.0.0/4 is multicast.
_SPECIAL_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own services, inside each virtual machine
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
#: All that IPv6 has given out for hosts of the public internet, and the special networks within.
#: Source: IANA, "IPv6 Special-Purpose Address Registry". 2001::/23 has Teredo, and 2002::/16 is 6to4: both hide an IPv4
#: address, and nothing that is called has one of them.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
#: Source: RFC 6052. The one for local use, 64:ff9b:1::/48, hides addresses in ways that only its network knows.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

#: A country's second level (co.uk, com.au, or.jp): many owners under one name. At most this long before two letters.
_COUNTRY_SECOND_LEVEL_CHARACTERS_MAX = 3


def check_realm(registry: URL, realm_text: str, allowed_hosts: Iterable[str]) -> URL:
    """The address of the token service that `registry` named, or `Untrusted`."""
    realm = parse_url(realm_text)
    where = f"{registry.host} sends us to {shown_url(realm)} for a token"
    if realm.user is not None or realm.password is not None:
        raise Untrusted(f"{where}, which carries a login of its own")
    if registry.scheme == "https" and realm.scheme != "https":
        raise Untrusted(f"{where}, which is not encrypted although the registry is")
    if not belongs_to(realm.host or "", registry.host or "") and not is_among(realm, allowed_hosts):
        add = f"add {written_host(realm)} to client.hosts.NAME.realms"
        raise Untrusted(f"{where}, which is another party's; if that is right, {add}")
    return realm


def belongs_to(host: str, registry_host: str) -> bool:
    """Whether the owner of `registry_host` owns `host` too, as far as names can tell."""
    host, registry_host = bare_host(host), bare_host(registry_host)
    if host == registry_host:
        return True
    if _is_address(host) or _is_address(registry_host):
        return False
    if host.endswith("." + registry_host) or registry_host.endswith("." + host):
        return _has_one_owner(min(host, registry_host, key=len))
    parent, registry_parent = host.partition(".")[2], registry_host.partition(".")[2]
    return parent == registry_parent and _has_one_owner(parent)


def same_origin(url: URL, other: URL) -> bool:
    """Whether scheme, host and port are the same."""
    return url.origin() == other.origin()


def resolve(base: URL, target_text: str) -> URL:
    """Where a `Location` or `Link` of the answer from `base` leads; `BadAnswer` if nowhere.

    Registries behind a proxy often write http:// although they were reached by https://: on the same host, that is
    read as https.
    """
    written = parse_url(target_text, relative=True)
    if written.user is not None or written.password is not None:
        raise Untrusted(f"{base.host} sends us to {shown_url(written)} with a login of its own")
    target = base.join(written).with_fragment(None)
    if target.scheme not in ("http", "https") or not target.host:
        raise BadAnswer(f"{base.host} sends us to an address that is none: {plain_text(target_text)}")
    if base.scheme == "https" and target.scheme == "http" and target.host == base.host:
        explicit = target.explicit_port if target.explicit_port != 80 else None
        target = target.with_scheme("https").with_port(explicit or base.explicit_port)
    return target


def check_redirect(source: URL, target: URL) -> None:
    """`Untrusted` if following would leave encryption behind."""
    if source.scheme == "https" and target.scheme != "https":
        raise Untrusted(f"{source.host} redirects to {shown_url(target)}, which is not encrypted")


def parse_url(text: str, *, relative: bool = False) -> URL:
    """`text` as an address, escapes kept as they are; `BadAnswer` if it is none."""
    try:
        if text.isascii() and text.isprintable() and " " not in text:
            url = URL(text, encoded=True)
            _ = url.port  # it is checked when it is read
            if url.raw_host:
                if not _is_host(url.raw_host):
                    raise BadAnswer(f"not an address: {plain_text(text)}")
                # With its escapes kept, yarl keeps the host's capitals too, and would take it for another one.
                url = url.with_host(url.raw_host.lower())
            if relative or (url.scheme in ("http", "https") and url.host):
                return url
    except ValueError:
        pass
    raise BadAnswer(f"not an address: {plain_text(text)}")


def is_internal_address(text: str) -> bool | None:
    """Whether an IP address is one that other hosts must not send us to; None where `text` is a name to look up."""
    if is_loopback(text):
        return True
    address = _address(text)
    return None if address is None else not _is_public(address)


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address in _NAT64:  # how a network without IPv4 reaches a host that has nothing else
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _GLOBAL_IPV6 and not any(address in network for network in _SPECIAL_IPV6)
    return not any(address in network for network in _SPECIAL_IPV4)


def same_host(host: str, other: str) -> bool:
    """Whether both are one host, however it is written."""
    return bare_host(host) == bare_host(other)


def is_among(url: URL, hosts: Iterable[str]) -> bool:
    """Whether `hosts`, which are as `written_host` gives them, name that of `url`, with its port or without."""
    host = written_host(url)
    return any(name in (host, f"{host}:{url.port}") for name in hosts)


def written_host(url: URL) -> str:
    """The host of `url` as it is written in image references and in the configuration."""
    host = bare_host(url.host or "")
    return f"[{host}]" if ":" in host else host


def bare_host(host: str) -> str:
    """The one form of `host`: small letters, no last dot, an IPv6 address without brackets."""
    host = host.lower().rstrip(".").strip("[]")
    try:
        return str(ipaddress.IPv6Address(host)) if ":" in host else host
    except ValueError:
        return host


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself."""
    host = bare_host(host)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _is_host(text: str) -> bool:
    """Whether `text` is a name, or an address as it is usually written.

    What ends in a number is read as an IPv4 address by the system (2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1).
    """
    if "%" in text:  # an escape, or the name of a network interface
        return False
    if _is_address(text):
        return True
    return _NAME.fullmatch(text) is not None and not _NUMBER.fullmatch(bare_host(text).rpartition(".")[2])


def _is_address(host: str) -> bool:
    return _address(host) is not None


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(bare_host(host).partition("%")[0])
    except ValueError:
        return None


def _has_one_owner(domain: str) -> bool:
    """Whether what lies below `domain` is one party's: never a top level, nor a country's second level.

    A list of all public suffixes would also know hosters that let strangers share a name. Without it, such a sibling is
    trusted; but it is the registry itself that names it, and a registry that means harm already has our login.
    """
    first, dot, rest = domain.partition(".")
    if not dot:
        return False
    return "." in rest or len(rest) != 2 or len(first) > _COUNTRY_SECOND_LEVEL_CHARACTERS_MAX
