"""`linker sandbox`: a Workable to try things on."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from linker.cli.exit_codes import DONE
from linker.cli.options import Json
from linker.cli.terminal.output import Output
from linker.errors import BadInput
from linker.sandbox import HOST, PORT, Limit, seed, serve

app = typer.Typer()


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on. Anybody who reaches it controls it.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = PORT,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="Switch off Workable's limit of calls.")] = False,
    as_json: Json = False,
) -> int:
    """Serve a Workable to try things on, until a signal; for development only.

    Its page adds recruiters, revokes tokens and lets Workable fail in every way.
    """
    world = seed.seeded()
    if no_limit:
        world.set_limit(Limit.off())
    output = Output(as_json)

    def announce(url: str) -> None:
        page = url.replace("{subdomain}", "_sandbox")
        tokens = Table.grid(padding=(0, 2))
        tokens.add_column(style="copy", no_wrap=True)
        for token, meaning in seed.DEMO_TOKENS.items():
            tokens.add_row(token, meaning)
        output.result(
            {"url": url, "page": page, "tokens": dict(seed.DEMO_TOKENS)},
            Text.assemble("A Workable to try things on listens. Its page: ", (page, "copy")),
            Text(),
            Text("Point the linker at it:", style="label"),
            Text(f"export LINKER_WORKABLE_URL='{url}'", style="copy", no_wrap=True),
            Text(),
            Text("Tokens of its accounts acme and globex:", style="label"),
            tokens,
            Text(),
            Text("Ctrl-C ends it.", style="quiet"),
        )

    try:
        asyncio.run(serve(world, host, port, handle_signals=True, on_ready=announce))
        return DONE
    except OSError as error:
        cause = error.strerror or str(error)
    raise BadInput("port", "cannot_listen", address=f"{host}:{port}", cause=cause)
