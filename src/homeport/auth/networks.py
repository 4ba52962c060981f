"""Which addresses belong to which networks. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]


@lru_cache(maxsize=1024)
def contain(networks: Networks, address: str) -> bool:
    """Whether the address is in one of the networks. What is no address is in none."""
    if not is_address(address):
        return False
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # What a socket that listens for both kinds calls an IPv4 peer.
    return any(parsed in network for network in networks)


def is_address(text: str) -> bool:
    """Whether it is the address of a machine."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
