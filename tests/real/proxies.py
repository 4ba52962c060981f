"""What may stand between a client and a server: bad network that breaks connections, and a proxy that knows names."""

import contextlib
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class Proxy:
    """Passes TCP on to ports of this machine."""

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
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def _connect(self, client: socket.socket, port: int) -> None:
        """Pass on, both ways, until one side has enough."""
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:  # Nobody is there any more.
            self._close(client)
            return
        self._open.add(server)
        threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
        self._pass_on(server, client, to_client=True)

    def _pass_on(self, source: socket.socket, target: socket.socket, *, to_client: bool = False) -> None:
        passed = 0
        try:
            while data := source.recv(64 * 1024):
                passed += len(data)
                if to_client and self._breaks_after(passed):
                    break
                target.sendall(data)
        except OSError:
            pass  # the other direction ended it
        self._close(source, target)

    def _breaks_after(self, _passed: int) -> bool:
        return False

    def _close(self, *sockets: socket.socket) -> None:
        for each in sockets:
            self._open.discard(each)
            with contextlib.suppress(OSError):  # not connected any more
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class CuttingProxy(Proxy):
    """Passes TCP on to one port. The first `cuts` connections break once they carried `cut_after_bytes`.

    Bytes towards the client are counted, each connection for itself.
    """

    def __init__(self, port: int, *, cut_after_bytes: int, cuts: int) -> None:
        super().__init__()
        self._port = port
        self._cut_after_bytes = cut_after_bytes
        self.cuts_left = cuts
        self._lock = threading.Lock()

    def _serve(self, client: socket.socket) -> None:
        self._connect(client, self._port)

    def _breaks_after(self, passed: int) -> bool:
        if passed <= self._cut_after_bytes:
            return False
        with self._lock:
            self.cuts_left -= 1
            return self.cuts_left >= 0


class NamingProxy(Proxy):
    """An HTTP proxy that tunnels: `ports` says where each HOST:PORT is on this machine. Others it refuses."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        super().__init__()
        self._ports = ports
        #: The HOST:PORT that it was asked for.
        self.asked: list[str] = []

    def _serve(self, client: socket.socket) -> None:
        with client.makefile("rb", buffering=0) as head:  # Not a byte too much: what follows is for the server.
            words = head.readline().decode().split(" ")
            while head.readline().strip():
                pass
        place = words[1] if words[0] == "CONNECT" else ""
        self.asked.append(place)
        if place in self._ports:
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            self._connect(client, self._ports[place])
        else:
            client.sendall(b"HTTP/1.1 403 Not for you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._close(client)
