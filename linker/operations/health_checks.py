"""What `linker doctor` checks, in the order in which things stand on one another.

Each check is a line: how it is, and what to do if it is not well. `code` is what the command ends with if this is the
first thing that is wrong: 2 for settings and keys, 5 for what may pass, 1 for the rest.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

import httpx
from sqlalchemy import Connection as Transaction
from sqlalchemy import func, or_, select, text

from linker.database.database import Database
from linker.database.urls import file_of
from linker.encryption import TokenCipher
from linker.errors import BadSettings, LinkerError, OurFault, TryAgain
from linker.http_client import TRANSPORT_TROUBLE, build_http, trouble_name
from linker.humanize import span
from linker.outbox.channels import CHANNELS, WEBHOOK
from linker.outbox.outbox_store import OutboxStore
from linker.outbox.webhooks import webhook_of
from linker.persistence.connection_store import ConnectionStore
from linker.persistence.schema import MEANINGS, compared
from linker.persistence.tables import CONNECTION, OUTBOX, TROUBLED
from linker.settings import Settings, load_settings
from linker.version import version
from linker.workable import api
from linker.workable.urls import AccountUrls
from states.problems import PROBLEMS, ProblemOwner

Mark = Literal["ok", "care", "failed"]

LIBRARIES = ("sqlalchemy", "sqlmodel", "alembic", "httpx", "apscheduler", "transitions", "cryptography")
MISSING = "missing"
#: Less room than this beside an SQLite file is a reason to worry; a tenth of it is a reason to stop.
ROOM = 500 * 1024 * 1024
#: A clock that is further off than this makes waiting times wrong.
SKEW = timedelta(seconds=10)
#: What is due for longer than this is attended by nobody.
LAG = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    mark: Mark
    said: str
    advice: str | None = None
    code: int = OurFault.exit_code


def ok(name: str, said: str) -> Check:
    """All is well."""
    return Check(name=name, mark="ok", said=said)


def care(name: str, said: str, advice: str) -> Check:
    """Nothing is broken, and somebody should have a look."""
    return Check(name=name, mark="care", said=said, advice=advice)


def failed(name: str, said: str, advice: str, code: int = OurFault.exit_code) -> Check:
    """This has to be mended."""
    return Check(name=name, mark="failed", said=said, advice=advice, code=code)


def _error(name: str, error: LinkerError) -> Check:
    if isinstance(error, BadSettings):
        return failed(name, f"{error.field}: {error.cause}", error.next_step, error.exit_code)
    return failed(name, str(error), "Mend this first; what stands on it was not checked.", error.exit_code)


async def examine(*, offline: bool = False) -> AsyncIterator[Check]:
    """Check everything, one thing after another; what stands on something broken is left out."""
    yield _program()
    try:
        settings = load_settings()
    except LinkerError as error:
        yield _error("settings", error)
        return
    yield ok("settings", "they can be read")
    async for check in _stored(settings):
        yield check
    if (webhook := _webhook(settings)) is not None:
        yield webhook
    try:
        accounts = AccountUrls(settings.workable_url).of(api.NO_ACCOUNT, api.ACCOUNTS_PATH)
    except LinkerError as error:
        yield _error("workable", error)
        return
    if not offline:
        async for check in _workable(str(accounts)):
            yield check


def _program() -> Check:
    versions = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    said = f"workable-linker {version()}, Python {platform.python_version()}, {versions}"
    missing = [name for name in LIBRARIES if _version(name) == MISSING]
    if missing:
        return care("program", said, f"Not installed in the usual way: {', '.join(missing)}.")
    return ok("program", said)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return MISSING


# keys and database


async def _stored(settings: Settings) -> AsyncIterator[Check]:
    try:
        sealer = TokenCipher(settings.secret_keys)
        yield ok("keys", f"{len(sealer.key_ids)} set; {sealer.newest} is the newest and seals")
    except LinkerError as error:
        sealer = None
        yield _error("keys", error)
    try:
        database = Database(settings.database_url)
    except LinkerError as error:
        yield _error("database", error)
        return
    try:
        for check in _file(database):
            yield check
        if (file := file_of(database.url)) is None or file.exists():
            async for check in _contents(database, sealer, settings):
                yield check
    except LinkerError as error:
        yield _error("database", error)
    finally:
        database.close()


def _file(database: Database) -> Iterator[Check]:
    """The file of an SQLite database and the disk that it is on."""
    file = file_of(database.url)
    if file is None:
        return
    folder = file.absolute().parent
    if not folder.is_dir():
        cause = f"the folder {folder} does not exist."
        yield failed("database", cause, "Make it, or change LINKER_DATABASE_URL.", TryAgain.exit_code)
        return
    if not file.exists():
        yield ok("database", f"{database.name} does not exist yet; the first use makes it")
    yield _room(folder)


def _room(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    said = f"{free / 1024**3:.1f} GiB are free beside the database"
    if free < ROOM / 10:
        return failed("disk", said, "Make room before the disk is full.", TryAgain.exit_code)
    return ok("disk", said) if free >= ROOM else care("disk", said, "Make room in time.")


async def _contents(database: Database, sealer: TokenCipher | None, settings: Settings) -> AsyncIterator[Check]:
    schema = await database.run_in_thread(compared)
    if schema["state"] != "head":
        said = f"{database.name}: {MEANINGS[schema['state']]}"
        yield failed("database", said, "Then run the doctor again.")
        return
    yield await database.write(lambda transaction: _writable(transaction, database.name))
    if database.is_sqlite:
        yield await database.read(_integrity)
        yield await database.read(_journal)
    if sealer is not None:
        yield _known_keys(sealer, await ConnectionStore(database).key_ids())
    yield await database.read(_states)
    yield await database.read(lambda transaction: _backlog(transaction, settings))
    yield await database.read(_operators)
    yield await _letters(database, settings)


def _writable(transaction: Transaction, name: str) -> Check:
    """SQLite would have refused to begin; PostgreSQL refuses only what is written, on a standby for example."""
    if transaction.dialect.name == "postgresql" and _setting(transaction, "transaction_read_only") == "on":
        return failed("database", f"{name} is read-only", "Use the primary server.", TryAgain.exit_code)
    return ok("database", f"{name} can be read and written, and its schema is at the head")


def _setting(transaction: Transaction, name: str) -> str:
    return str(transaction.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar())


def _integrity(transaction: Transaction) -> Check:
    found = transaction.execute(text("PRAGMA quick_check(1)")).scalar()
    if found == "ok":
        return ok("integrity", "the file is sound")
    return failed("integrity", f"the file is damaged: {found}", "Stop the workers and restore it from a backup.")


def _journal(transaction: Transaction) -> Check:
    mode = transaction.execute(text("PRAGMA journal_mode")).scalar()
    if mode == "wal":
        return ok("journal", "write-ahead: readers and the writer work at the same time")
    return care("journal", f"the journal mode is {mode}", "Run `linker db upgrade`; it sets write-ahead.")


def _known_keys(sealer: TokenCipher, stored: frozenset[str]) -> Check:
    missing, older = stored - sealer.key_ids, stored - {sealer.newest}
    if missing:
        said = f"tokens are sealed with the key {', '.join(sorted(missing))}, which is not set"
        return failed("stored keys", said, "Add it to LINKER_SECRET_KEYS, after the newest; nothing is lost.", 2)
    if older:
        said = f"tokens are still sealed with the older key {', '.join(sorted(older))}"
        return care("stored keys", said, "Run `linker keys rotate`, then drop the older keys.")
    return ok("stored keys", "every stored token opens with the newest key" if stored else "no token is stored")


def _states(transaction: Transaction) -> Check:
    query = select(CONNECTION.c.state, func.count()).group_by(CONNECTION.c.state).order_by(CONNECTION.c.state)
    counts = [f"{count} {state}" for state, count in transaction.execute(query)]
    return ok("connections", ", ".join(counts) or "none yet")


def _backlog(transaction: Transaction, settings: Settings) -> Check:
    """How much is due, and for how long: that nobody attends it shows here first."""
    now = datetime.now(UTC)
    due = select(func.count(), func.min(CONNECTION.c.due_at)).where(CONNECTION.c.due_at <= now)
    count, oldest = transaction.execute(due).one()
    if not count or oldest is None:
        return ok("due", "nothing is due")
    lag = now - oldest
    said = f"{count} due, the oldest since {span(lag)}"
    if lag > max(LAG, 10 * timedelta(seconds=settings.sweep_seconds)):
        return failed(
            "due", said, "Nobody attends them: start `linker worker`, or look at its log.", TryAgain.exit_code
        )
    return ok("due", said)


async def _letters(database: Database, settings: Settings) -> Check:
    """What the host was not told: what should have been posted long ago, and dead letters."""
    now = datetime.now(UTC)
    waiting = await OutboxStore(database, WEBHOOK).forgotten(before=now - LAG, now=now) if settings.webhook_url else 0
    if waiting:
        said = f"{waiting} announcements should have been posted more than {span(LAG)} ago"
        return failed(
            "outbox", said, "Nobody posts them: start `linker worker`, or look at its log.", TryAgain.exit_code
        )
    dead = or_(*(way.of(OUTBOX, "dead_at").is_not(None) for way in CHANNELS))
    query = select(func.count()).select_from(OUTBOX).where(dead)
    if count := await database.read(lambda transaction: transaction.execute(query).scalar_one()):
        said = f"{count} announcements were given up"
        return care("outbox", said, "See `linker outbox list --dead`, mend the receiver, then `linker outbox retry`.")
    return ok("outbox", "no announcement was given up")


def _webhook(settings: Settings) -> Check | None:
    """Half a webhook is none; the receiver is not called."""
    if settings.webhook_url is None:
        advice = "Set LINKER_WEBHOOK_URL too, or drop the secret."
        return care("webhook", "a secret is set, and no URL", advice) if settings.webhook_secret else None
    try:
        webhook = webhook_of(settings, lambda: datetime.now(UTC))
    except LinkerError as error:
        return _error("webhook", error)
    assert webhook is not None, "a URL is set"
    return ok("webhook", f"announcements are posted to {webhook.origin}, signed with {len(webhook.signings)} secret(s)")


def _operators(transaction: Transaction) -> Check:
    ours = {ProblemOwner.OPERATOR, ProblemOwner.US}
    codes = [code.value for code, advice in PROBLEMS.items() if advice.owner in ours]
    waiting = (text(TROUBLED), CONNECTION.c.problem_code.in_(codes))
    count = transaction.execute(select(func.count()).where(*waiting).select_from(CONNECTION)).scalar_one()
    if count:
        return care("operator", f"{count} connections wait for an operator", "See `linker list --stuck`.")
    return ok("operator", "no connection waits for an operator")


# Workable


async def _workable(url: str) -> AsyncIterator[Check]:
    """Ask which accounts no token reaches: Workable refuses that with 401, in JSON, and tells its time."""
    try:
        async with build_http() as http:
            answer = await http.get(url, headers={"Accept": "application/json"}, timeout=10)
            now = datetime.now(UTC)
    except (httpx.HTTPError, *TRANSPORT_TROUBLE) as error:
        said = f"{url} cannot be reached ({trouble_name(error)})"
        yield failed("workable", said, "Check the network, a firewall, or LINKER_WORKABLE_URL.", TryAgain.exit_code)
        return
    yield _answered(url, answer)
    if (skew := _skew(answer, now)) is not None:
        yield skew


def _answered(url: str, answer: httpx.Response) -> Check:
    kind = answer.headers.get("content-type", "no type").partition(";")[0]
    if answer.status_code == 401 and kind == "application/json":
        return ok("workable", f"{url} is reached, and refuses a call without a token as it should")
    said = f"{url} answers with {answer.status_code} ({kind}), not as Workable does"
    return failed("workable", said, "Check LINKER_WORKABLE_URL and proxies, or wait for Workable.", TryAgain.exit_code)


def _skew(answer: httpx.Response, now: datetime) -> Check | None:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return None
    off = now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    if abs(off) <= SKEW:
        return ok("clock", "it agrees with Workable's")
    ahead = "ahead of" if off > timedelta(0) else "behind"
    advice = "Let the machine's clock be set by NTP: waiting times are reckoned with it."
    return failed("clock", f"it is {span(off)} {ahead} Workable's", advice)
