"""What `linker doctor` checks, in the order in which things stand on one another.

Each check is a line: how it is, and what to do if it is not well. `code` is what the command ends with if this is the
first thing that is wrong: 2 for settings and keys, 5 for what may pass, 1 for the rest.

What is due, and what waits in the outbox, is judged by the database's clock, as the workers judge it: this machine's
may be hours off. It is compared with Workable's in the last check.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

import httpx
from sqlalchemy import func, or_, select, text

from linker.database.database import Database
from linker.database.urls import file_of
from linker.encryption import TokenCipher
from linker.engine.ports import SystemClock
from linker.errors import BadSettings, LinkerError, OurFault, TryAgain
from linker.http_client import TRANSPORT_TROUBLE, build_transport, trouble_name
from linker.humanize import span
from linker.outbox.channels import CHANNELS, WEBHOOK
from linker.outbox.outbox_store import OutboxStore
from linker.outbox.webhooks import build_webhook
from linker.persistence.connection_store import ConnectionStore, backlog, has_problem_of
from linker.persistence.schema import MEANINGS, compared
from linker.persistence.server_clock import shared_clock
from linker.persistence.tables import CONNECTION, OUTBOX, TROUBLED
from linker.settings import Settings, load_settings
from linker.version import version
from linker.workable import api
from linker.workable.urls import AccountUrls
from states.problems import ProblemOwner

LIBRARIES = ("sqlalchemy", "sqlmodel", "alembic", "httpx", "apscheduler", "transitions", "cryptography")
MISSING = "missing"
#: Less room than this beside an SQLite file is a reason to worry; a tenth of it is a reason to stop.
LOW_DISK_BYTES = 500 * 1024 * 1024
#: A clock that is further off than this makes waiting times wrong.
MAX_CLOCK_SKEW = timedelta(seconds=10)
#: What is due for longer than this is attended by nobody.
OVERDUE_AFTER = timedelta(minutes=5)
CALL_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "care", "failed"]
    said: str
    advice: str | None = None
    code: int = OurFault.exit_code


def ok(name: str, said: str) -> Check:
    """All is well."""
    return Check(name=name, status="ok", said=said)


def warning(name: str, said: str, advice: str) -> Check:
    """Nothing is broken, and somebody should have a look."""
    return Check(name=name, status="care", said=said, advice=advice)


def failure(name: str, said: str, advice: str, code: int = OurFault.exit_code) -> Check:
    """This has to be mended."""
    return Check(name=name, status="failed", said=said, advice=advice, code=code)


def _error(name: str, error: LinkerError) -> Check:
    if isinstance(error, BadSettings):
        return failure(name, f"{error.field}: {error.cause}", error.next_step, error.exit_code)
    return failure(name, str(error), "Mend this first; what stands on it was not checked.", error.exit_code)


async def run_checks(*, offline: bool = False) -> AsyncIterator[Check]:
    """Check everything, one thing after another; what stands on something broken is left out."""
    versions = dict.fromkeys(LIBRARIES, MISSING)
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    listed = ", ".join(f"{name} {found}" for name, found in versions.items())
    program = f"workable-linker {version()}, Python {platform.python_version()}, {listed}"
    if missing := [name for name, found in versions.items() if found == MISSING]:
        yield warning("program", program, f"Not installed in the usual way: {', '.join(missing)}.")
    else:
        yield ok("program", program)
    try:
        settings = load_settings()
    except LinkerError as error:
        yield _error("settings", error)
        return
    yield ok("settings", "they can be read")
    async for check in _keys_and_database(settings):
        yield check
    for check in _webhook(settings):
        yield check
    try:
        accounts = AccountUrls(settings.workable_url).of(api.NO_ACCOUNT, api.ACCOUNTS_PATH)
    except LinkerError as error:
        yield _error("workable", error)
        return
    if not offline:
        async for check in _workable(str(accounts)):
            yield check


async def _keys_and_database(settings: Settings) -> AsyncIterator[Check]:
    cipher = None
    try:
        cipher = TokenCipher(settings.secret_keys)
        yield ok("keys", f"{len(cipher.key_ids)} set; {cipher.newest} is the newest and seals")
    except LinkerError as error:
        yield _error("keys", error)
    try:
        database = Database(settings.database_url)
    except LinkerError as error:
        yield _error("database", error)
        return
    try:
        file = file_of(database.url)
        for check in _file(file, database.name) if file else ():
            yield check
        if file is None or file.exists():
            async for check in _database(database, cipher, settings):
                yield check
    except LinkerError as error:
        yield _error("database", error)
    finally:
        database.close()


def _file(file: Path, name: str) -> Iterator[Check]:
    """The file of an SQLite database and the disk that it is on."""
    folder = file.absolute().parent
    if not folder.is_dir():
        cause = f"the folder {folder} does not exist."
        yield failure("database", cause, "Make it, or change LINKER_DATABASE_URL.", TryAgain.exit_code)
        return
    if not file.exists():
        yield ok("database", f"{name} does not exist yet; the first use makes it")
    free_bytes = shutil.disk_usage(folder).free
    said = f"{free_bytes / 1024**3:.1f} GiB are free beside the database"
    if free_bytes < LOW_DISK_BYTES / 10:
        yield failure("disk", said, "Make room before the disk is full.", TryAgain.exit_code)
    elif free_bytes < LOW_DISK_BYTES:
        yield warning("disk", said, "Make room in time.")
    else:
        yield ok("disk", said)


async def _database(database: Database, cipher: TokenCipher | None, settings: Settings) -> AsyncIterator[Check]:
    schema = await database.run_in_thread(compared)
    if schema["state"] != "head":
        yield failure("database", f"{database.name}: {MEANINGS[schema['state']]}", "Then run the doctor again.")
        return
    # SQLite would refuse to begin; PostgreSQL refuses only what is written, on a standby for example
    read_only = await database.write(
        lambda transaction: (
            not database.is_sqlite
            and transaction.execute(text("SELECT current_setting('transaction_read_only')")).scalar() == "on"
        )
    )
    if read_only:
        yield failure("database", f"{database.name} is read-only", "Use the primary server.", TryAgain.exit_code)
    else:
        yield ok("database", f"{database.name} can be read and written, and its schema is at the head")
    if database.is_sqlite:
        found = await database.read(lambda transaction: transaction.execute(text("PRAGMA quick_check(1)")).scalar())
        if found == "ok":
            yield ok("integrity", "the file is sound")
        else:
            advice = "Stop the workers and restore it from a backup."
            yield failure("integrity", f"the file is damaged: {found}", advice)
        mode = await database.read(lambda transaction: transaction.execute(text("PRAGMA journal_mode")).scalar())
        if mode == "wal":
            yield ok("journal", "write-ahead: readers and the writer work at the same time")
        else:
            yield warning("journal", f"the journal mode is {mode}", "Run `linker db upgrade`; it sets write-ahead.")
    now = (await shared_clock(database)).now()
    async for check in _contents(database, cipher, settings, now):
        yield check
    yield await _outbox(database, settings, now)


async def _contents(
    database: Database, cipher: TokenCipher | None, settings: Settings, now: datetime
) -> AsyncIterator[Check]:
    """Whether tokens open, due connections are attended, and one waits for an operator."""
    if cipher is not None:
        stored = await ConnectionStore(database).key_ids()
        missing, older = (", ".join(sorted(stored - keys)) for keys in (cipher.key_ids, {cipher.newest}))
        if missing:
            said = f"tokens are sealed with the key {missing}, which is not set"
            advice = "Add it to LINKER_SECRET_KEYS, after the newest; nothing is lost."
            yield failure("stored keys", said, advice, BadSettings.exit_code)
        elif older:
            said = f"tokens are still sealed with the older key {older}"
            yield warning("stored keys", said, "Run `linker keys rotate`, then drop the older keys.")
        else:
            yield ok("stored keys", "every stored token opens with the newest key" if stored else "no token is stored")
    states = select(CONNECTION.c.state, func.count()).group_by(CONNECTION.c.state).order_by(CONNECTION.c.state)
    counts = await database.read(lambda transaction: transaction.execute(states).all())
    yield ok("connections", ", ".join(f"{count} {state}" for state, count in counts) or "none yet")
    waiting = await database.read(lambda transaction: backlog(transaction, now))
    lag = timedelta(seconds=waiting.lag_seconds)
    said = f"{waiting.due} due, the oldest since {span(lag)}" if waiting.due else "nothing is due"
    if lag > max(OVERDUE_AFTER, 10 * timedelta(seconds=settings.sweep_seconds)):
        advice = "Nobody attends them: start `linker worker`, or look at its log."
        yield failure("due", said, advice, TryAgain.exit_code)
    else:
        yield ok("due", said)
    ours = has_problem_of({ProblemOwner.OPERATOR, ProblemOwner.US})
    query = select(func.count()).select_from(CONNECTION).where(text(TROUBLED), ours)
    if count := await database.read(lambda transaction: transaction.execute(query).scalar_one()):
        yield warning("operator", f"{count} connections wait for an operator", "See `linker list --stuck`.")
    else:
        yield ok("operator", "no connection waits for an operator")


async def _outbox(database: Database, settings: Settings, now: datetime) -> Check:
    """What the host was not told: what should have been posted long ago, and dead letters."""
    unclaimed = 0
    if settings.webhook_url:
        unclaimed = await OutboxStore(database, WEBHOOK).count_unclaimed(before=now - OVERDUE_AFTER, now=now)
    if unclaimed:
        said = f"{unclaimed} announcements should have been posted more than {span(OVERDUE_AFTER)} ago"
        advice = "Nobody posts them: start `linker worker`, or look at its log."
        return failure("outbox", said, advice, TryAgain.exit_code)
    dead = or_(*(channel.column(OUTBOX, "dead_at").is_not(None) for channel in CHANNELS))
    query = select(func.count()).select_from(OUTBOX).where(dead)
    if count := await database.read(lambda transaction: transaction.execute(query).scalar_one()):
        advice = "See `linker outbox list --dead`, mend the receiver, then `linker outbox retry`."
        return warning("outbox", f"{count} announcements were given up", advice)
    return ok("outbox", "no announcement was given up")


def _webhook(settings: Settings) -> Iterator[Check]:
    """Half a webhook is none; the receiver is not called."""
    if settings.webhook_url is None:
        if settings.webhook_secret:
            yield warning("webhook", "a secret is set, and no URL", "Set LINKER_WEBHOOK_URL too, or drop the secret.")
        return
    try:
        webhook = build_webhook(settings, SystemClock())
    except LinkerError as error:
        yield _error("webhook", error)
        return
    assert webhook is not None, "a URL is set"
    signers = len(webhook.signers)
    yield ok("webhook", f"announcements are posted to {webhook.origin}, signed with {signers} secret(s)")


async def _workable(url: str) -> AsyncIterator[Check]:
    """Ask which accounts no token reaches: Workable refuses that with 401, in JSON, and tells its time."""
    try:
        async with httpx.AsyncClient(transport=build_transport(), trust_env=False) as http:
            answer = await http.get(url, headers={"Accept": "application/json"}, timeout=CALL_TIMEOUT_SECONDS)
            now = datetime.now(UTC)
    except (httpx.HTTPError, *TRANSPORT_TROUBLE) as error:
        said = f"{url} cannot be reached ({trouble_name(error)})"
        yield failure("workable", said, "Check the network, a firewall, or LINKER_WORKABLE_URL.", TryAgain.exit_code)
        return
    kind = answer.headers.get("content-type", "no type").partition(";")[0]
    if answer.status_code == 401 and kind == "application/json":
        yield ok("workable", f"{url} is reached, and refuses a call without a token as it should")
    else:
        said = f"{url} answers with {answer.status_code} ({kind}), not as Workable does"
        advice = "Check LINKER_WORKABLE_URL and proxies, or wait for Workable."
        yield failure("workable", said, advice, TryAgain.exit_code)
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return
    off = now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    if abs(off) <= MAX_CLOCK_SKEW:
        yield ok("clock", "it agrees with Workable's")
    else:
        ahead = "ahead of" if off > timedelta(0) else "behind"
        advice = "Let the machine's clock be set by NTP: waiting times are reckoned with it."
        yield failure("clock", f"it is {span(off)} {ahead} Workable's", advice)
