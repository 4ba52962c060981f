"""What a setting can be: sizes, durations, addresses, patterns. Each says in its error what it takes instead."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from homeport.config.place import parse_path
from homeport.oci import globs, patterns

_NUMBER_WITH_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_BYTES = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("iB", 1024), ("B", 1000))
}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_EVERYBODY = "anonymous"
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")

_SERVER_URL = re.compile(rf"https?://({_HOST_NAME.pattern})(/[A-Za-z0-9._~/-]*)?")
_ENGINE_URL = re.compile(rf"unix:///[^\0?#]+|(tcp|http)://({_HOST_NAME.pattern})")


def refusal(message: str, *location: str | int) -> ValidationError:
    """What a check of several values raises to refuse the one at this place among them, and not all."""
    error = PydanticCustomError("refused", "{message}", {"message": message})
    return ValidationError.from_exception_data("", [InitErrorDetails(type=error, loc=location, input=None)])


def _quantity(value: Any, units: dict[str, int], example: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return value
    if isinstance(value, str) and (match := _NUMBER_WITH_UNIT.fullmatch(value.strip())) and match[2] in units:
        return float(match[1]) * units[match[2]]
    raise ValueError(f"must be {example}")


def parse_size(value: Any) -> int:
    """Bytes, from a number or from text such as `1GiB`."""
    return round(_quantity(value, _BYTES, "a number of bytes, or a size such as 512MiB, 1GiB or 10GB"))


def parse_duration(value: Any) -> float:
    """Seconds, from a number or from text such as `5m`."""
    return _quantity(value, _SECONDS, "a number of seconds, or a duration such as 30s, 5m, 12h or 7d")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: Any) -> Address:
    """`HOST:PORT`, where an IPv6 host stands in brackets; `:PORT` is every IPv4 address."""
    if isinstance(value, Address):
        return value
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000")
    return Address(host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port))  # noqa: S104 (asked for by ':PORT')


def _parse_network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        if isinstance(value, str):
            return ip_network(value)
    except ValueError:
        pass
    raise ValueError("must be an address or a network, such as 10.0.0.7, 172.16.0.0/12 or fd00::/8")


def check_url(value: str) -> str:
    scheme, separator, host = value.removesuffix("/").partition("://")
    if not separator or scheme not in ("http", "https") or not _HOST_NAME.fullmatch(host):
        raise ValueError("must be the address that clients use, such as https://registry.example.org, without a path")
    return f"{scheme}://{host}"


def _check_proxy(value: str) -> str:
    try:
        return check_url(value)
    except ValueError:
        raise ValueError("must be the address of a proxy, such as http://proxy.lan:3128, without a path") from None


def _check_place_of_a_server(value: str) -> str:
    if not _SERVER_URL.fullmatch(value):
        raise ValueError("must be its address, such as https://vault.lan or https://lan.example.org/vault")
    return value.rstrip("/")


def _check_engine(value: str) -> str:
    url = value.rstrip("/")
    if not _ENGINE_URL.fullmatch(url):
        raise ValueError(
            "must be where a container engine listens: unix:///var/run/docker.sock, tcp://HOST:2376 for TLS, or"
            " http://HOST:2375 where the network between is your own"
        )
    return url


def check_pattern(value: str) -> str:
    try:
        patterns.compiled(value)
    except ValueError:
        raise ValueError("must be a pattern of repository names, such as team/app, team/* or team/**") from None
    return value


def _check_tag_glob(value: str) -> str:
    try:
        return globs.check_tag_glob(value)
    except ValueError:
        raise ValueError(
            "must be a glob that a tag can match, such as v*, release-* or 1.?: letters, digits, _ . and -,"
            " '*' (any characters) and '?' (one)"
        ) from None


def _check_agent_glob(value: str) -> str:
    if not value.isprintable() or not 1 <= len(value) <= globs.CHARACTERS_MAX:
        raise ValueError("must be a glob of User-Agent headers, such as *trivy*: '*' is any characters, '?' is one")
    return value


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be a name: a letter or digit, then at most 127 of letters, digits and . _ @ + -")
    if value == _EVERYBODY:
        raise ValueError(f"must be another name: in a rule, '{_EVERYBODY}' is everybody")
    return value


def _check_subject(value: str) -> str:
    kind, colon, name = value.partition(":")
    if value not in ("*", _EVERYBODY):
        if colon and kind not in ("user", "group"):
            raise ValueError(
                "must be a name, 'user:NAME', 'group:NAME', '*' (who is logged in) or 'anonymous' (everybody)"
            )
        _check_name(name if colon else value)
    return value


def check_host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError("must be a host name as it stands in image names, such as quay.io or registry.lan:5000")
    return value


def parse_rights(value: Any) -> Any:
    # Slips that are easy to make and hard to understand from a type error.
    if value is None or isinstance(value, str):
        raise ValueError("must be a list, such as [pull, push], or [] for no rights")
    return value


_QUANTITY_SCHEMA = [{"type": "number", "minimum": 0}, {"type": "string"}]

Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({"anyOf": _QUANTITY_SCHEMA})]
Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema({"anyOf": _QUANTITY_SCHEMA})]
Listen = Annotated[
    Address,
    PlainValidator(parse_address),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": ":[0-9]+$"}),
]
Network = Annotated[
    IPv4Network | IPv6Network, PlainValidator(_parse_network), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
Url = Annotated[str, AfterValidator(check_url)]
ProxyUrl = Annotated[str, AfterValidator(_check_proxy)]
#: One that may lie below a path.
ServerUrl = Annotated[str, AfterValidator(_check_place_of_a_server)]
EngineUrl = Annotated[str, AfterValidator(_check_engine)]
Pattern = Annotated[str, AfterValidator(check_pattern)]
TagGlob = Annotated[str, AfterValidator(_check_tag_glob)]
AgentGlob = Annotated[str, AfterValidator(_check_agent_glob)]
Name = Annotated[str, AfterValidator(_check_name)]
Subject = Annotated[str, AfterValidator(_check_subject)]
HostName = Annotated[str, AfterValidator(check_host_name)]
FilePath = Annotated[Path, PlainValidator(parse_path), PlainSerializer(str), WithJsonSchema({"type": "string"})]
Count = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
