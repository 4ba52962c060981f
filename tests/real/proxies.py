"""What stands between a client and a server: bad network, and a proxy that knows where names lead."""

import contextlib
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class _Tunnels:
    """Accepts connections on a port of this machine, and passes bytes on in threads."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(self._listener, *self._open)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._open.add(client)
            self._begin(client)

    def _begin(self, client: socket.socket) -> None:
        """A client has come."""
        raise NotImplementedError

    def _join(self, client: socket.socket, server: socket.socket, cut_after_bytes: int | None = None) -> None:
        self._open.add(server)
        threading.Thread(target=self._pass_on, args=(client, server, None), daemon=True).start()
        threading.Thread(target=self._pass_on, args=(server, client, cut_after_bytes), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, cut_after_bytes: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(64 * 1024):
                passed += len(data)
                if cut_after_bytes is not None and passed > cut_after_bytes and self._may_cut():
                    break
                target.sendall(data)
        except OSError:
            pass  # the other direction ended it
        self._close(source, target)

    def _may_cut(self) -> bool:
        return True

    def _close(self, *sockets: socket.socket) -> None:
        for each in sockets:
            self._open.discard(each)
            with contextlib.suppress(OSError):  # not connected any more
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class CuttingProxy(_Tunnels):
    """Passes TCP on to a port of this machine. The first `cuts` connections break once they carried `cut_after_bytes`.

    Bytes towards the client are counted, each connection for itself.
    """

    def __init__(self, port: int, *, cut_after_bytes: int, cuts: int) -> None:
        super().__init__()
        self._port = port
        self._cut_after_bytes = cut_after_bytes
        self.cuts_left = cuts
        self._lock = threading.Lock()

    def _begin(self, client: socket.socket) -> None:
        self._join(client, socket.create_connection(("127.0.0.1", self._port)), self._cut_after_bytes)

    def _may_cut(self) -> bool:
        with self._lock:
            self.cuts_left -= 1
            return self.cuts_left >= 0


class NamingProxy(_Tunnels):
    """An HTTP proxy that tunnels to the places that it knows, by their HOST:PORT; nothing else is there."""

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__()
        self._places = places
        #: Where it was asked to go.
        self.asked: list[str] = []

    def _begin(self, client: socket.socket) -> None:
        threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        try:
            head = client.makefile("rb", buffering=0)
            method, target, _ = head.readline().decode().split(" ")
            while head.readline().strip():
                pass  # a header
            self.asked.append(target)
            if method != "CONNECT" or target not in self._places:
                raise ConnectionRefusedError
            host, _, port = self._places[target].rpartition(":")
            server = socket.create_connection((host, int(port)))
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 502 Not there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._close(client)
            return
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        self._join(client, server)
