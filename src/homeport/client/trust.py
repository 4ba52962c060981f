"""Who may be told a secret, and where another host may send us.

Pure. Holds:
- a token service ("realm") gets our login only if it belongs to the registry that named it: the same host, a parent or
  child of it, or its sibling under a name that one party owns (registry-1.docker.io and auth.docker.io); anything else
  has to be named in the configuration;
- what began as https never goes on as http;
- `Authorization` goes to the origin that it was made for and to no other.

A registry that names a stranger's token service is how logins were stolen from pull-through caches (distribution before
3.1.0) and from Python clients (CVE-2026-12566); `Authorization` that follows a redirect is CVE-2020-15157.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from yarl import URL

from homeport.client.errors import BadAnswer, Untrusted
from homeport.client.redaction import plain_text, shown_url

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
    host = realm.host or ""
    if not belongs_to(host, registry.host or "") and host not in allowed_hosts:
        raise Untrusted(f"{where}, which is another party's; if that is right, add {host} to client.hosts.NAME.realms")
    return realm


def belongs_to(host: str, registry_host: str) -> bool:
    """Whether the owner of `registry_host` owns `host` too, as far as names can tell."""
    host, registry_host = _bare(host), _bare(registry_host)
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
    target = base.join(parse_url(target_text, relative=True)).with_fragment(None)
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
            if relative or (url.scheme in ("http", "https") and url.host):
                # With its escapes kept, yarl keeps the host's capitals too, and would take it for another one.
                return url.with_host(url.host.lower()) if url.host else url
    except ValueError:
        pass
    raise BadAnswer(f"not an address: {plain_text(text)}")


def is_internal_address(text: str) -> bool | None:
    """Whether an IP address is one that strangers must not send us to; None where `text` is a name."""
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return not address.is_global or address.is_multicast


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself."""
    host = _bare(host)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _bare(host: str) -> str:
    return host.lower().rstrip(".").strip("[]")


def _is_address(host: str) -> bool:
    return is_internal_address(host) is not None


def _has_one_owner(domain: str) -> bool:
    """Whether what lies below `domain` is one party's: never a top level, nor a country's second level.

    A list of all public suffixes would also know hosters that let strangers share a name. Without it, such a sibling is
    trusted; but it is the registry itself that names it, and a registry that means harm already has our login.
    """
    first, dot, rest = domain.partition(".")
    if not dot:
        return False
    return "." in rest or len(rest) != 2 or len(first) > _COUNTRY_SECOND_LEVEL_CHARACTERS_MAX
