"""A stretch of bad network between a client and a server: connections that break in the middle of an answer."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Passes TCP on to a port of this machine. The first `cuts` connections break once they carried `cut_after_bytes`.

    Bytes towards the client are counted, each connection for itself.
    """

    def __init__(self, port: int, *, cut_after_bytes: int, cuts: int) -> None:
        self._port = port
        self._cut_after_bytes = cut_after_bytes
        self.cuts_left = cuts
        self._lock = threading.Lock()
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
            server = socket.create_connection(("127.0.0.1", self._port))
            self._open |= {client, server}
            threading.Thread(target=self._pass_on, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, self._cut_after_bytes), daemon=True).start()

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
        with self._lock:
            self.cuts_left -= 1
            return self.cuts_left >= 0

    def _close(self, *sockets: socket.socket) -> None:
        for each in sockets:
            self._open.discard(each)
            with contextlib.suppress(OSError):  # not connected any more
                each.shutdown(socket.SHUT_RDWR)
            each.close()
