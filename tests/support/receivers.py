"""Whoever is told: an HTTP server in a thread that keeps all that it was sent."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """A request. Names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    location: str | None = None


class Receiver:
    """Answers every POST and PUT with what `answer` gives."""

    def __init__(self, answer: Callable[[Received], Answer] = lambda _: Answer()) -> None:
        self.received: list[Received] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                got = Received(self.command, self.path, headers, body)
                received.append(got)
                given = answer(got)
                self.send_response(given.status)
                self.send_header("Content-Length", str(len(given.body)))
                if given.location is not None:
                    self.send_header("Location", given.location)
                self.end_headers()
                self.wfile.write(given.body)

            do_PUT = do_POST  # noqa: N815 (the name that http.server looks for)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the overridden name)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
