"""A guest's sockets: whose threads look names up, how many files are open, and what goes through a proxy."""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from linker import BadSettings, Linker, Settings, load_settings, new_key, new_webhook_secret
from linker.errors import OurFault
from linker.http_client import build_transport
from linker.workable.client import WorkableClient
from states.verdicts import AccountReadable, Unavailable

TOKEN = SecretStr("c4n4ry-c4n4ry-c4n4ry")
REAL = socket.getaddrinfo
#: The most connections of the transports here.
CONNECTIONS = 60


def answer(body: object, *headers: str) -> bytes:
    """A good answer of Workable's."""
    raw = json.dumps(body).encode()
    head = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(raw)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + raw


class Server:
    """A Workable for any account, by the name of its host or the first part of its path; it counts what is open."""

    def __init__(self, *headers: str) -> None:
        self.open = 0
        self.most_open = 0
        self.opened = 0
        self._headers = headers

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        self.open += 1
        self.opened += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                name = head.split(" ", 2)[1].rpartition("/")[2]
                account = {"id": f"id-{name}", "name": name, "subdomain": name}
                body: Any = {"recruiters": []} if name == "recruiters" else account
                writer.write(answer(body, *self._headers))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[int]:
    """The port that it is at."""
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, backlog=512)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


@contextmanager
def names(monkeypatch: pytest.MonkeyPatch, hangs: threading.Event | None = None) -> Iterator[list[str]]:
    """Every name under `many.localhost` is this machine; those under `slow.localhost` hang until the event is set."""
    asked: list[str] = []

    def look_up(host: Any, *given: Any, **more: Any) -> Any:
        asked.append(threading.current_thread().name)
        if str(host).endswith(".slow.localhost") and hangs is not None:
            hangs.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return REAL("127.0.0.1" if str(host).endswith(".localhost") else host, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", look_up)
        yield asked
        if hangs is not None:
            hangs.set()


# names


async def test_a_hosts_threads_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the name server is silent, for Workable and for a webhook, the host's own threads are free."""
    hangs = threading.Event()
    settings = Settings(
        database_url="sqlite://",
        secret_keys=(new_key(),),
        workable_url="http://{subdomain}.slow.localhost:9",
        webhook_url="http://hooks.slow.localhost:9/",
        webhook_secret=(new_webhook_secret(),),
    )
    with names(monkeypatch, hangs) as asked:
        async with Linker(settings) as linker:
            made = [await linker.create(owner=f"o{number}") for number in range(60)]
            asking = [
                asyncio.create_task(linker.submit_token(one.id, subdomain=f"s{number}", token=TOKEN))
                for number, one in enumerate(made)
            ]
            posting = asyncio.create_task(linker.deliver())
            longest = 0.0
            for _ in range(20):
                began = time.monotonic()
                await asyncio.to_thread(lambda: None)
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.02)
            threads = sum(each.name.startswith("linker-resolver") for each in threading.enumerate())
            for task in (*asking, posting):
                task.cancel()
            await asyncio.gather(*asking, posting, return_exceptions=True)
            hangs.set()
    assert longest < 0.5
    assert 10 < threads <= 32 + 10
    assert all(name.startswith("linker-resolver") for name in asked)


HANGING = """
import asyncio, socket, sys, time
from linker.http_client import build_transport
from linker.workable.client import Timeouts, WorkableClient
from pydantic import SecretStr

def hang(*given, **more):
    time.sleep(60)

socket.getaddrinfo = hang

async def main():
    async with build_transport() as transport:
        soon = Timeouts.within(0.3)
        client = WorkableClient(transport, url_template="https://{subdomain}.example.com", timeouts=soon)
        print(type((await client.verify("acme", SecretStr("c4n4ry" * 4))).verdict).__name__)

asyncio.run(main())
print(time.monotonic())
"""


def test_a_silent_name_server_holds_up_no_end() -> None:
    """A process ends at once while a name is still looked up: neither the loop nor the interpreter waits for it."""
    ran = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, check=True, timeout=50)
    verdict, ended = ran.stdout.split()
    assert verdict == "Unavailable"
    assert time.monotonic() - float(ended) < 5


# files


async def test_idle_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of customers, each with a host of its own, leaves few open files; those used last are kept."""
    server = Server()
    with names(monkeypatch):
        async with serving(server) as port, build_transport(connections=CONNECTIONS) as transport:
            client = WorkableClient(transport, url_template=f"http://{{subdomain}}.many.localhost:{port}")
            for first in range(0, 300, 30):
                answers = await asyncio.gather(*(client.verify(f"s{first + n}", TOKEN) for n in range(30)))
                assert all(isinstance(one.verdict, AccountReadable) for one in answers)
                await asyncio.sleep(0.01)
                assert server.open <= CONNECTIONS
            assert server.most_open <= CONNECTIONS + 30
            was_open = server.open
            await client.verify("s299", TOKEN)
            assert server.open == was_open, "the connection that was used last was used again"


async def test_a_busy_host_keeps_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are in use at one time are used again and again: none is closed to make room for nobody."""
    server = Server()
    with names(monkeypatch):
        async with serving(server) as port, build_transport(connections=CONNECTIONS) as transport:
            client = WorkableClient(transport, url_template=f"http://many.localhost:{port}/{{subdomain}}")
            for _ in range(5):
                await asyncio.gather(*(client.verify(f"s{number}", TOKEN) for number in range(CONNECTIONS)))
            assert server.opened <= CONNECTIONS


@contextmanager
def few_files() -> Iterator[None]:
    """This process may open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 1, hard))
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    try:
        yield
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("looked_up", ["a name", "a name that the system cannot find then", "an address"])
async def test_no_more_files_are_trouble_of_ours(looked_up: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That no file may be opened says nothing of Workable."""

    def not_found(host: Any, *given: Any, **more: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    template = "http://127.0.0.1:9/{subdomain}" if looked_up == "an address" else "http://{subdomain}.many.localhost:9"
    with names(monkeypatch):
        if looked_up.endswith("then"):
            monkeypatch.setattr(socket, "getaddrinfo", not_found)
        async with build_transport() as transport:
            client = WorkableClient(transport, url_template=template)
            with few_files(), pytest.raises(OurFault) as fault:
                await client.verify("acme", TOKEN)
            assert fault.value.reason == "out_of_files"
            assert (await client.verify("acme", TOKEN)).verdict == Unavailable()


@pytest.mark.parametrize("kind", ["aiohttp", "httpx"])
async def test_long_headers_are_read(kind: Any) -> None:
    """One header of 64 KB, and many of 1 KB: answers with them are as good as others."""
    for headers in ([f"X-Long: {'a' * 65_536}"], [f"X-{number}: {'b' * 1_000}" for number in range(60)]):
        async with serving(Server(*headers)) as port, build_transport(kind) as transport:
            client = WorkableClient(transport, url_template=f"http://127.0.0.1:{port}/{{subdomain}}")
            assert isinstance((await client.verify("acme", TOKEN)).verdict, AccountReadable)


# proxies


class Proxy:
    """An HTTP proxy that lets nobody through, and keeps what it was told."""

    def __init__(self) -> None:
        self.told = b""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.told += await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def proxying(proxy: Proxy) -> AsyncIterator[str]:
    """The proxy's address, without a scheme."""
    listening = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def test_workable_and_webhooks_go_through_the_proxy() -> None:
    """It learns the hosts and its own password, and neither a token nor the path of the webhook."""
    proxy = Proxy()
    async with proxying(proxy) as address:
        settings = Settings(
            database_url="sqlite://",
            secret_keys=(new_key(),),
            workable_url="https://{subdomain}.workable.invalid",
            webhook_url="https://app.invalid/s3cret-path",
            webhook_secret=(new_webhook_secret(),),
            proxy_url=f"http://user:p%40ss@{address}",
        )
        assert "p%40ss" not in repr(settings)
        async with Linker(settings) as linker:
            connection = await linker.create(owner="o")
            connection = await linker.submit_token(connection.id, subdomain="acme", token=TOKEN)
            await linker.deliver()
    assert connection.problem is not None
    assert b"CONNECT acme.workable.invalid:443" in proxy.told
    assert b"CONNECT app.invalid:443" in proxy.told
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in proxy.told
    assert TOKEN.get_secret_value().encode() not in proxy.told
    assert b"s3cret-path" not in proxy.told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_what_is_on_this_machine_is_not_asked_of_a_proxy_elsewhere(host: str) -> None:
    """A proxy elsewhere would get the token in clear text."""
    async with serving(Server()) as port, build_transport(proxy="http://192.0.2.1:3128") as transport:
        client = WorkableClient(transport, url_template=f"http://{host}:{port}/{{subdomain}}")
        assert isinstance((await client.verify("acme", TOKEN)).verdict, AccountReadable)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither is a .netrc: whoever sets them for other programs sends no token of ours anywhere."""
    proxy = Proxy()
    (tmp_path / "netrc").write_text("default login somebody password else\n", encoding="utf-8")
    async with proxying(proxy) as address:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{address}")
            monkeypatch.setenv(name.lower(), f"http://{address}")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for kind in ("aiohttp", "httpx"):
            async with build_transport(kind) as transport:
                client = WorkableClient(transport, url_template="https://{subdomain}.workable.invalid")
                assert (await client.verify("acme", TOKEN)).verdict == Unavailable()
    assert proxy.told == b""


@pytest.mark.parametrize(
    "bad",
    ["proxy", "proxy:3128", "socks5://proxy:1080", "http://", "http://proxy:99999", "http://proxy/path", "ftp://p"],
)
def test_a_bad_proxy_is_named(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting and what is wrong with it; the value is not shown, because a password may stand in it."""
    monkeypatch.setenv("LINKER_PROXY_URL", bad)
    with pytest.raises(BadSettings) as refused:
        load_settings()
    assert (refused.value.field, refused.value.reason) == ("proxy_url", "not_a_proxy")
