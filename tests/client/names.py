"""A resolver of our own: what each name leads to, one answer after the other; the last one stays."""

import socket
from collections.abc import Sequence
from typing import Any

import pytest

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


class Names:
    """Stands in for the system's resolver, in this process, for the names that it is told; the others are not there."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Sequence[str]]] = {}
        self.asked: list[str] = []

    def __setitem__(self, name: str, answers: Sequence[Sequence[str]]) -> None:
        self._answers[name] = list(answers)

    def getaddrinfo(self, host: str, port: int, family: int = 0, type: int = 0, *rest: Any, **more: Any) -> list[Any]:  # noqa: A002
        """As the one of `socket`."""
        if host.replace(".", "").isdigit() or ":" in host:
            return [_info(host, port)]
        self.asked.append(host)
        answers = self._answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_info(address, port) for address in (answers.pop(0) if len(answers) > 1 else answers[0])]


def _info(address: str, port: int) -> AddressInfo:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """The names that this test knows."""
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names
