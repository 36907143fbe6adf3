"""A proxy in front of an S3 server that fails on demand: it goes away, swallows requests, or refuses them."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
_OF_THE_CONNECTION = {"connection", "transfer-encoding", "keep-alive", "expect"}


class Proxy:
    """Forwards requests to ``upstream`` as they are, so that their signatures hold.

    ``share_of_503``: how many of the requests are answered SlowDown. ``down``: connections are dropped unanswered.
    ``silent``: nothing is answered, and connections are dropped once it is False again, as in a network partition.
    ``cut``: the connection breaks in the middle of each answer to a GET of an object.
    ``expired``: every request is answered 403 ExpiredToken. ``watch`` is called with the method and the path of each
    request before it is forwarded. ``requests``, ``refused`` and ``connections`` count.
    """

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self.share_of_503, self.down, self.silent, self.expired, self.cut = 0.0, False, False, False, False
        self.watch: Callable[[str, str], None] = lambda _method, _path: None
        self.requests = self.refused = self.connections = 0
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._host = urlsplit(upstream).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients are killed in mid-request
        threading.Thread(target=self._server.serve_forever, name="s3-proxy", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _refuses(self) -> bool:
        with self._lock:
            refused = self._random.random() < self.share_of_503
            self.refused += refused
            return refused

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - ``self`` is the handler below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                proxy.connections += 1
                super().setup()

            def forward(self) -> None:
                proxy.requests += 1
                proxy.watch(self.command, self.path)
                if proxy.down or proxy.silent:
                    proxy.refused += 1
                    while proxy.silent:
                        time.sleep(0.05)
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                body = self.body()
                if proxy.expired:
                    self.answer(403, {"Content-Type": "application/xml"}, EXPIRED)
                    return
                if proxy._refuses():
                    self.answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
                    return
                upstream = http.client.HTTPConnection(proxy._host, timeout=60)
                try:
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in _OF_THE_CONNECTION | {"content-length"}:
                            upstream.putheader(name, value)
                    upstream.putheader("Content-Length", str(len(body)))
                    upstream.endheaders(body)
                    answer = upstream.getresponse()
                    self.answer(answer.status, dict(answer.getheaders()), answer.read())
                except OSError:
                    self.close_connection = True
                finally:
                    upstream.close()

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                chunks = []
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():  # what follows the last chunk
                    pass
                return b"".join(chunks)

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in _OF_THE_CONNECTION | {"content-length"}:
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", length)
                self.end_headers()
                if proxy.cut and self.command == "GET" and "etag" in map(str.lower, headers):
                    self.wfile.write(body[: len(body) // 2])
                    # Closed with a reset: the client's next read fails, after what it has received.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                self.wfile.write(body if self.command != "HEAD" else b"")

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815 - the names are the base class's

            def log_message(self, *_: object) -> None:
                pass

        return Handler
