"""A receiver of webhooks on a real socket: it keeps what came, and answers as it is told to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["_Answering"], None]


@dataclass(frozen=True)
class Came:
    """A request as it came."""

    path: str
    headers: Message
    body: bytes

    @property
    def id(self) -> str:
        """The id of the webhook."""
        return self.headers["webhook-id"]

    @property
    def payload(self) -> Any:
        """What it says."""
        return json.loads(self.body)

    @property
    def type(self) -> str:
        """What it announces."""
        return str(self.payload["type"])

    @property
    def owner(self) -> str:
        """Whose connection it is about."""
        return str(self.payload["data"]["owner"])

    def is_signed_with(self, secret: str) -> bool:
        """True if one of the signatures is right, reckoned from the scheme's own words."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        right = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return f"v1,{right}" in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """What came so far, and how the next ones are answered: by the script, then with `otherwise`."""

    url: str = ""
    came: list[Came] = field(default_factory=list)
    script: deque[Answer] = field(default_factory=deque)
    otherwise: Answer = field(default_factory=lambda: status(204))
    #: Lets those go on that hang.
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def types(self) -> list[str]:
        """What was announced, in order."""
        return [each.type for each in self.came]


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def do_POST(self) -> None:
        """Keep the request, then answer as the script says."""
        body = self.rfile.read(int(self.headers["content-length"]))
        came = Came(path=self.path, headers=self.headers, body=body)
        self.receiver.came.append(came)
        answer = self.receiver.script.popleft() if self.receiver.script else self.receiver.otherwise
        try:
            answer(self)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def status(code: int, **headers: str) -> Answer:
    """Answer with a status and headers."""

    def answer(to: _Answering) -> None:
        to.send_response(code)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.send_header("content-length", "0")
        to.end_headers()

    return answer


def hang(to: _Answering) -> None:
    """Answer nothing until the test lets go."""
    to.receiver.let_go.wait(60)
    to.close_connection = True


def reset(to: _Answering) -> None:
    """Break the connection off."""
    to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    to.connection.close()
    to.close_connection = True


def nonsense(to: _Answering) -> None:
    """Answer with something that is no HTTP."""
    to.wfile.write(b"this is no answer at all\r\n\r\n")
    to.close_connection = True


def huge(code: int) -> Answer:
    """Answer with a body without an end."""

    def answer(to: _Answering) -> None:
        to.send_response(code)
        to.send_header("transfer-encoding", "chunked")
        to.end_headers()
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        while not to.receiver.let_go.is_set():
            to.wfile.write(chunk)

    return answer


def trickle(code: int) -> Answer:
    """Answer with a body that never comes."""

    def answer(to: _Answering) -> None:
        to.send_response(code)
        to.send_header("content-length", "1000")
        to.end_headers()
        to.receiver.let_go.wait(60)

    return answer


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port, for one block."""
    receiver = Receiver()
    answering = type("Answering", (_Answering,), {"receiver": receiver})
    with ThreadingHTTPServer(("127.0.0.1", 0), answering) as server:
        server.daemon_threads = True
        server.block_on_close = False
        receiver.url = f"http://127.0.0.1:{server.server_port}/hooks?from=linker"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.let_go.set()
            server.shutdown()
            thread.join(10)
