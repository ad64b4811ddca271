"""docs/howto/dialog.md as it stands: the dialog beside Django and under Flask, in real servers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from linker.sandbox import seed
from tests.acceptance.hosting import add_recruiter, hosted
from tests.dialog_server import Customer, walk

pytestmark = pytest.mark.slow

#: What a host has besides: Django's settings with a page of its own, and a page of its own in Flask.
SITE = """
from django.http import HttpResponse
from django.urls import path

SECRET_KEY, ALLOWED_HOSTS, ROOT_URLCONF = "x", ["127.0.0.1"], __name__
urlpatterns = [path("own", lambda request: HttpResponse("the host's own page"))]
"""
OWN_PAGE = """
app.add_url_rule("/own", "own", lambda: "the host's own page")
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python -m uvicorn asgi:application --lifespan off --port 0", "Uvicorn running on "),
        ("python -m flask --app web run --port 0", "Running on "),
    ],
    ids=["django", "flask"],
)
def test_the_dialog_in_a_host(command: str, said: str, tmp_path: Path) -> None:
    """The whole flow under the host's path, and beside it the host's own page; its first request opens the linker."""
    with hosted("dialog", tmp_path) as host:
        (tmp_path / "site_of_django.py").write_text(SITE, encoding="utf-8")
        with (tmp_path / "web.py").open("a", encoding="utf-8") as web:
            web.write(OWN_PAGE)
        host.settings |= {
            "DJANGO_SETTINGS_MODULE": "site_of_django",
            "LINKER_PUBLIC_URL": "http://127.0.0.1/connect",
            "LINKER_DIALOG_NAME": "Northwind",
        }

        async def made() -> Customer:
            async with host.linker() as linker:
                connection = await linker.create(owner="customer-42")
                link = await linker.create_link(connection.id, plain=True)
                return Customer(seed.ACME, seed.ACME_TOKEN, connection.id, link.id, link.url)

        async def email() -> str:
            async with host.linker() as linker:
                recruiter = (await linker.get(customer.connection_id)).recruiter
                assert recruiter is not None
                return recruiter.email

        with host.started(command) as server:
            customer = asyncio.run(made())
            server.until_said(said)
            address = re.findall(rf"{said}(\S+)", server.said)[0].rstrip("/")
            assert httpx.get(f"{address}/own", timeout=30).text == "the host's own page"
            url = customer.url.replace("http://127.0.0.1", address)
            walk(url, customer, lambda: add_recruiter(host.world, asyncio.run(email())))
