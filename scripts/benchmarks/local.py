"""What all measurements stand on: a Workable in a process of its own, and a database full of due connections."""

from __future__ import annotations

import gc
import multiprocessing
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe

from pydantic import SecretStr
from sqlalchemy import delete, insert

from linker import Settings, new_key
from linker.database.database import Database
from linker.encryption import TokenCipher, fingerprint
from linker.persistence import mapping
from linker.persistence.schema import upgrade
from linker.persistence.tables import CONNECTION
from linker.sandbox import EVERYWHERE, Fault, Limit, World, running
from states.connection import Account, Connection, ConnectionState, Credential, Recruiter
from states.table import LAW

TOKEN = SecretStr("a-token-for-all-accounts-of-the-bench")
NOW = datetime.now(UTC)
#: Since when connections wait.
SINCE = NOW - timedelta(minutes=30)


def serve(ready: Pipe, accounts: int, seconds: float) -> None:
    """Serve a Workable without a limit, with a token for each account, until the other end hangs up."""
    world = World(limit=Limit.off(), log_length=1)
    for number in range(accounts):
        world.add_account(f"bench{number}", name=f"Bench {number}")
        world.add_token(f"bench{number}", token_of(number).get_secret_value())
    if seconds:
        world.fail(EVERYWHERE, Fault.SLOW, seconds=seconds)
    with running(world) as url:
        ready.send(url)
        ready.recv()


def leave_alone() -> None:
    """Let Python's collector pass over what is there before the clock starts: else it falls upon one side at random."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def token_of(number: int) -> SecretStr:
    """The token of an account."""
    return SecretStr(f"{TOKEN.get_secret_value()}-{number}")


@contextmanager
def workable(accounts: int, *, seconds: float = 0.0) -> Iterator[str]:
    """A Workable in a process of its own, which takes so many seconds for each answer; gives the URL template."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, accounts, seconds), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("done")
        process.join(10)


def settings(database_url: str, workable_url: str, *, concurrency: int = 50) -> Settings:
    """Settings with a fresh key."""
    keys = (new_key(),)
    return Settings(database_url=database_url, workable_url=workable_url, secret_keys=keys, concurrency=concurrency)


def waiting(number: int, sealer: TokenCipher, since: datetime = SINCE) -> Connection:
    """A connection that waits for its recruiter, as many do at any time."""
    connection_id = f"con_{secrets.token_hex(10)}"
    token = token_of(number)
    return Connection(
        id=connection_id,
        owner=f"owner-{number}",
        created_at=since,
        state=ConnectionState.AWAITING_RECRUITER,
        state_since=since,
        subdomain=f"bench{number}",
        account=Account(id=f"{number:x}", name=f"Bench {number}", subdomain=f"bench{number}"),
        recruiter=Recruiter(name="Integration", email=f"ats+{number:010d}@inbound.example.com"),
        token=Credential(
            subdomain=f"bench{number}",
            sealed=sealer.seal(token, bound_to=connection_id),
            fingerprint=fingerprint(token),
        ),
        deadline=NOW + timedelta(days=14),
        due_at=NOW,
        last_ok_at=NOW,
    )


def fill(
    database_url: str, of: Settings, count: int, make: Callable[[int, TokenCipher], Connection] = waiting
) -> list[str]:
    """Make a database with connections that are due, as they would be after their set-up; gives their ids."""
    sealer = TokenCipher(of.secret_keys)
    connections = [make(number, sealer) for number in range(count)]
    kept = {"version": 1, "last_seq": 0, "updated_at": NOW, "law": LAW}
    rows = [mapping.changed_columns(None, connection) | kept for connection in connections]
    database = Database(database_url)
    upgrade(database)
    database.write_here(lambda transaction: transaction.execute(delete(CONNECTION)))
    if rows:
        database.write_here(lambda transaction: transaction.execute(insert(CONNECTION), rows))
    database.close()
    return [connection.id for connection in connections]
