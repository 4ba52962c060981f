"""What a request means that is about another registry's images: every way of writing it, and what looks like one."""

import pytest

from homeport.oci.errors import NameInvalid, NameUnknown, RegistryError, RequestInvalid
from homeport.server import addressing
from homeport.server.context import Options
from homeport.server.http import Request
from tests.server.requests import request
from tests.server.upstreams import UPSTREAMS

OPTIONS = Options(upstreams=UPSTREAMS, url="https://registry.example/")


def asked(query: str = "", *headers: tuple[str, str], host: str = "10.0.0.9:5000") -> Request:
    return request(query=query.encode(), headers=[("Host", host), *headers])


def namespace(host: str) -> tuple[str, str]:
    return ("OCI-Namespace", host)


def meant(request: Request, repository: str, options: Options = OPTIONS) -> str | type[RegistryError]:
    try:
        return addressing.meant(request, options, repository)
    except RegistryError as error:
        return type(error)


def meant_at_door(request: Request, repository: str) -> str | type[RegistryError]:
    try:
        return addressing.meant_at_door(request, UPSTREAMS, repository)
    except RegistryError as error:
        return type(error)


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("docker.io/library/alpine", "docker.io/library/alpine"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("docker.io/ours/app", "docker.io/ours/app"),
        ("ghcr.io/app", "ghcr.io/app"),
        ("registry.lan_5001/app", "registry.lan_5001/app"),
        # Ours, whatever others call theirs.
        ("alpine", "alpine"),
        ("library/alpine", "library/alpine"),
        ("team/x", "team/x"),
        ("docker.io", "docker.io"),
        ("docker.io.evil/alpine", "docker.io.evil/alpine"),
        ("docker.iox/alpine", "docker.iox/alpine"),
        ("x/docker.io/alpine", "x/docker.io/alpine"),
        ("quay.io/app", "quay.io/app"),
    ],
)
def test_by_our_name(repository: str, expected: str) -> None:
    assert meant(asked(), repository) == expected


@pytest.mark.parametrize(
    ("host", "repository", "expected"),
    [
        ("docker.io", "library/alpine", "docker.io/library/alpine"),
        ("docker.io", "alpine", "docker.io/library/alpine"),
        ("docker.io", "docker.io/library/alpine", "docker.io/library/alpine"),
        ("docker.io", "docker.io/alpine", "docker.io/library/alpine"),
        ("ghcr.io", "team/x", "ghcr.io/team/x"),
        ("ghcr.io", "app", "ghcr.io/app"),
        # Below the registry that is said, whatever the name looks like.
        ("ghcr.io", "docker.io/x", "ghcr.io/docker.io/x"),
        ("registry.lan:5001", "a/b", "registry.lan_5001/a/b"),
        ("docker.io", "a/" + "x" * 250, NameInvalid),
        # Nobody that is served here.
        ("quay.io", "team/x", NameUnknown),
        ("docker.io.evil", "library/alpine", NameUnknown),
        ("evil.docker.io", "library/alpine", NameUnknown),
        ("DOCKER.IO", "library/alpine", NameUnknown),
        ("docker.io.", "library/alpine", NameUnknown),
        ("docker.io:443", "library/alpine", NameUnknown),
        ("registry.lan", "a/b", NameUnknown),
        ("registry.lan_5001", "a/b", NameUnknown),
        ("docker.io/library", "alpine", NameUnknown),
        ("docker.io/../ghcr.io", "alpine", NameUnknown),
        ("user@docker.io", "library/alpine", NameUnknown),
        ("https://docker.io", "library/alpine", NameUnknown),
        ("docker.io?x", "library/alpine", NameUnknown),
        ("docker.io ", "library/alpine", NameUnknown),
        ("docker.io%00", "library/alpine", NameUnknown),
        ("127.0.0.1", "library/alpine", NameUnknown),
        ("169.254.169.254", "latest/meta-data", NameUnknown),
        ("", "library/alpine", NameUnknown),
        ("*", "library/alpine", NameUnknown),
    ],
)
def test_with_the_registrys_name_beside_it(host: str, repository: str, expected: object) -> None:
    query = "ns=" + "".join(f"%{byte:02x}" if chr(byte) in "%?& " else chr(byte) for byte in host.encode())
    assert meant(asked(query), repository) == meant(asked("", namespace(host)), repository) == expected
    assert meant(asked(query, namespace(host)), repository) == expected
    assert meant_at_door(asked(query), repository) == meant_at_door(asked("", namespace(host)), repository) == expected


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("10.0.0.9:5000", "10.0.0.9:5000"),
        ("10.0.0.9:5000", "registry.example"),
        ("10.0.0.9:5000", "Registry.Example"),
        ("Mirror.lan", "mirror.lan"),
    ],
)
def test_our_own_name_beside_it_says_nothing(host: str, said: str) -> None:
    assert meant(asked(f"ns={said}", host=host), "team/x") == "team/x"
    assert meant(asked("", namespace(said), host=host), "docker.io/alpine") == "docker.io/library/alpine"
    assert meant_at_door(asked(f"ns={said}", host=host), "team/x") is NameUnknown


def test_a_host_that_is_called_like_an_upstream_does_not_make_ours_its() -> None:
    assert meant(asked("ns=docker.io", host="docker.io"), "team/x") == "docker.io/team/x"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("ns=docker.io&ns=ghcr.io", []),
        ("ns=docker.io&ns=", []),
        ("ns=docker.io", ["ghcr.io"]),
        ("ns=ghcr.io", ["docker.io"]),
        ("", ["docker.io", "ghcr.io"]),
        ("ns=docker.io", ["docker.io", "docker.io"]),
    ],
)
def test_two_registries_at_once_are_none(query: str, headers: list[str]) -> None:
    both = asked(query, *map(namespace, headers))
    expected = RequestInvalid if query else NameUnknown  # A list in a header is a name that nobody has.
    assert meant(both, "library/alpine") is expected
    assert meant_at_door(both, "library/alpine") is expected


def test_the_same_registry_twice_is_one() -> None:
    assert meant(asked("ns=ghcr.io&ns=ghcr.io"), "team/x") == "ghcr.io/team/x"


def test_the_list_of_all_repositories_is_ours_alone() -> None:
    assert meant(asked("ns=docker.io"), "") is NameUnknown
    assert meant(asked("ns=registry.example"), "") == ""


def test_where_nothing_is_cached_everything_is_ours_whatever_its_nodes_call_us() -> None:
    alone = Options()
    assert meant(asked(), "docker.io/alpine", alone) == "docker.io/alpine"
    for host in ("docker.io", "registry.lan"):
        assert meant(asked(f"ns={host}"), "team/x", alone) == "team/x"


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("library/alpine", "docker.io/library/alpine"),
        ("alpine", "docker.io/library/alpine"),
        ("team/x", "docker.io/team/x"),
        ("docker.io/library/alpine", "docker.io/library/alpine"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("ghcr.io/team/x", "ghcr.io/team/x"),
        ("registry.lan_5001/x", "registry.lan_5001/x"),
        # Docker Hub is not asked for what is another registry's.
        ("quay.io/team/x", NameUnknown),
        ("docker.io.evil/x", NameUnknown),
        ("ghcr.io", "docker.io/library/ghcr.io"),
    ],
)
def test_at_the_door(repository: str, expected: object) -> None:
    assert meant_at_door(asked(), repository) == expected


def test_at_the_door_without_docker_hub() -> None:
    upstreams = {"ghcr.io": "ghcr.io"}
    with pytest.raises(NameUnknown, match="no such repository"):
        addressing.meant_at_door(asked(), upstreams, "library/alpine")
    assert addressing.meant_at_door(asked(), upstreams, "ghcr.io/team/x") == "ghcr.io/team/x"
