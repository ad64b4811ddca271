"""The connection dialog: `link` and `links` for a customer's way in, `dialog` to serve it."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table
from rich.text import Text

from linker.cli import logging_setup
from linker.cli.context import settings
from linker.cli.exit_codes import DONE
from linker.cli.linker_context import with_linker
from linker.cli.options import Actor, Id, Json
from linker.cli.terminal.output import Output
from linker.errors import BadInput, NotFound
from linker.linker import Linker
from linker.links import LONGEST_SPAN, IssuedLink, Link, Purpose, link_json
from linker.settings import DIALOG_PORT
from linker.version import from_extra

app = typer.Typer()

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def span(field: str, given: str | None) -> timedelta | None:
    """A span of time as `7d`, `12h` or in ISO 8601. Raises BadInput."""
    if given is None:
        return None
    short = re.fullmatch(r"(\d{1,6})([dhms])", given.strip().lower(), re.ASCII)
    if short is not None:
        return timedelta(**{_UNITS[short[2]]: int(short[1])})
    try:
        if given.strip().upper().startswith("P"):
            return TypeAdapter(timedelta).validate_python(given.strip().upper())
    except ValidationError:
        pass
    raise BadInput(field, "not_a_link_span", days=LONGEST_SPAN.days)


@app.command()
def link(
    connection_id: Id,
    purpose: Annotated[
        str, typer.Option("--for", metavar="WHAT", help=f"{', '.join(Purpose)}: what can be done by it.")
    ] = Purpose.SETUP.value,
    expires: Annotated[str | None, typer.Option(metavar="SPAN", help="How long it lasts, as in 7d or 12h.")] = None,
    embed_origin: Annotated[
        str | None, typer.Option(metavar="URL", help="The one origin whose pages may show it in a frame.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Of the pages, as in en; by default English.")] = None,
    contact: Annotated[str | None, typer.Option(metavar="TEXT", help="For whom it is, for the history.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="For browsers without JavaScript; proxies and logs may see the secret.")
    ] = False,
    actor: Actor = "",
    as_json: Json = False,
) -> int:
    """Make a link to the connection dialog, for one of your customers.

    Whoever has it can act for the customer. It is shown now and never again: only a hash of its secret is kept.
    """
    lasting = span("expires", expires)

    async def make(linker: Linker) -> tuple[str, IssuedLink]:
        whole_id = await linker.whole_id(connection_id)
        issued = await linker.create_link(
            whole_id,
            for_=purpose,
            expires=lasting,
            embed_origin=embed_origin,
            language=language,
            contact=contact,
            plain=plain,
            actor=actor,
        )
        return whole_id, issued

    whole_id, made = with_linker(make)
    until = f"{made.expires_at:%Y-%m-%d %H:%M} UTC"
    Output(as_json).result(
        {"id": made.id, "url": made.url, "expires_at": made.expires_at.isoformat()},
        Text(made.url, style="copy", no_wrap=True, overflow="ignore"),
        Text(f"until {until}; `linker links {whole_id} --revoke {made.id}` takes it back", style="quiet"),
    )
    return DONE


@app.command()
def links(
    connection_id: Id,
    revoke: Annotated[
        str | None, typer.Option(metavar="LINK", help="Take this link back: it opens nothing more.")
    ] = None,
    as_json: Json = False,
) -> int:
    """List the links of a connection, and take one back."""

    async def work(linker: Linker) -> tuple[list[Link], Any]:
        whole_id = await linker.whole_id(connection_id)
        if revoke is not None:
            if revoke.strip() not in [each.id for each in await linker.links(whole_id)]:
                raise NotFound(revoke.strip(), what="link")
            await linker.revoke_link(revoke.strip())
        return await linker.links(whole_id), linker.clock.now()

    found, now = with_linker(work)
    table = Table.grid(padding=(0, 2))
    for each in found:
        for_whom = each.contact or ""
        table.add_row(
            Text(each.id, style="copy"),
            each.purpose,
            each.status(now),
            f"{each.expires_at:%Y-%m-%d %H:%M} UTC",
            for_whom,
        )
    output = Output(as_json)
    output.result([link_json(each, now) for each in found], table if found else Text("none", style="quiet"))
    return DONE


@app.command()
def dialog(
    host: Annotated[
        str, typer.Option(help="The address to listen on; a proxy with TLS belongs in front.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = DIALOG_PORT,
    as_json: Json = False,
) -> int:
    """Serve the connection dialog, until a signal.

    While a customer has a page open, this process looks for what the connection waits for; a worker is needed for
    all others, and for telling your product.
    """
    given = settings()
    logging_setup.configure(given.log_level)
    serve = from_extra("dialog", "linker.dialog.serve").serve
    output = Output(as_json)

    def announce(url: str) -> None:
        output.result(
            {"url": url},
            Text.assemble("The connection dialog listens at ", (url, "copy"), ". Ctrl-C ends it."),
            Text(f"Links begin with {given.public_url or url}; `linker link ID` makes one.", style="quiet"),
        )

    try:
        asyncio.run(serve(Linker(given), host, port, on_ready=announce))
        return DONE
    except OSError as error:
        cause = error.strerror or str(error)
    raise BadInput("port", "cannot_listen", address=f"{host}:{port}", cause=cause)
