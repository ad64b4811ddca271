"""The customer's story: `open`, `submit`, `confirm`; and `check`, a look at any time."""

from __future__ import annotations

import getpass
import sys
import warnings
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer
from pydantic import SecretStr

from linker.cli.context import settings
from linker.cli.exit_codes import DONE, after_asking
from linker.cli.linker_context import with_linker
from linker.cli.options import Actor, Id, Json, pairs, whole
from linker.cli.terminal.connection_views import print_connection
from linker.cli.terminal.output import Output
from linker.errors import BadInput
from linker.linker import Linker
from linker.validation import parse_expiry, parse_subdomain

app = typer.Typer()

#: Nothing longer is read from stdin; a token is far shorter.
MAX_TOKEN_BYTES = 64 * 1024


@app.command()
def open(
    owner: Annotated[str, typer.Option(help="Your own name for the customer.")],
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A text to find again with the connection; repeatable.")
    ] = None,
    actor: Actor = "",
    as_json: Json = False,
) -> int:
    """Create a connection for one of your customers."""
    details = pairs("metadata", metadata or [])
    connection = with_linker(lambda linker: linker.create(owner=owner, metadata=details, actor=actor, by_hand=True))
    print_connection(connection, as_json)
    return DONE


@app.command()
def submit(
    connection_id: Id,
    subdomain: Annotated[str, typer.Option(help="The Workable subdomain, or the account's address.")],
    token_expires: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="When the token expires: YYYY-MM-DD, or 30 days, 90 days, 6 months, 1 year, 2 years."
        ),
    ] = None,
    held_token: Annotated[
        bool, typer.Option("--held-token", help="The one in use, or the one that was another account's minutes ago.")
    ] = False,
    actor: Actor = "",
    as_json: Json = False,
) -> int:
    """Give a token, from stdin or at a hidden prompt, and verify it now.

    Ends with 4 if Workable refuses the token, and with 5 if Workable cannot say now: then the token is kept, and the
    connection goes on by itself.
    """
    expires_on = None if token_expires is None else parse_expiry(token_expires, datetime.now(UTC).date())
    parse_subdomain(subdomain)
    if not held_token and sys.stdin is not None and sys.stdin.isatty():
        with_linker(lambda linker: whole(linker, linker.get, connection_id))  # nobody should type a token for nothing
    linker = Linker(settings())
    token = None if held_token else read_token()
    with Output(as_json).busy("Asking Workable whether the token is good …"):
        connection = with_linker(
            lambda linker: whole(
                linker,
                partial(
                    linker.submit_token,
                    subdomain=subdomain,
                    token=token,
                    expires_on=expires_on,
                    actor=actor,
                    by_hand=True,
                ),
                connection_id,
            ),
            linker,
        )
    print_connection(connection, as_json)
    return after_asking(connection, submitted=True)


@app.command()
def confirm(connection_id: Id, actor: Actor = "", as_json: Json = False) -> int:
    """Look for the recruiter now, as "Set up integration" does.

    Ends with 0 when it is linked or still waiting, with 4 when it has failed or there is nothing to look for, and with
    5 if Workable cannot say now.
    """
    with Output(as_json).busy("Looking for the recruiter in Workable …"):
        connection = with_linker(
            lambda linker: whole(linker, partial(linker.confirm_recruiter, actor=actor, by_hand=True), connection_id)
        )
    print_connection(connection, as_json)
    return after_asking(connection)


def read_token() -> SecretStr:
    """The token: typed unseen on a terminal, read from stdin otherwise. Never an argument, which `ps` would show.

    Raises:
        BadInput: nothing came, or the terminal would show what is typed.
    """
    if sys.stdin is None:
        raise BadInput("token", "stdin_closed")
    if not sys.stdin.isatty():
        return SecretStr(sys.stdin.buffer.read(MAX_TOKEN_BYTES).decode("utf-8", "replace").strip("\r\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return SecretStr(getpass.getpass("API token (it is not shown): "))
        except EOFError:
            reason = "nothing_entered"
        except getpass.GetPassWarning:
            reason = "would_show"
    raise BadInput("token", reason)
