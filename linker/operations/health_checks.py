"""What `linker doctor` checks, in the order in which things stand on one another.

Each check is a line: how it is, and what to do if it is not well. `code` is what the command ends with if this is the
first thing that is wrong: 2 for settings and keys, 5 for what may pass, 1 for the rest.

What is due, and what waits in the outbox, is judged by the database's clock, as the workers judge it: this machine's
may be hours off. It is compared with Workable's in the last check.
"""

from __future__ import annotations

import platform
import shutil
import stat
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import httpx
from sqlalchemy import func, or_, select, text

from linker.database.database import Database
from linker.database.urls import file_of
from linker.encryption import TokenCipher
from linker.engine.ports import SystemClock
from linker.errors import BadSettings, LinkerError, OurFault, SealBroken, TryAgain
from linker.http_client import TRANSPORT_TROUBLE, build_transport, trouble_name
from linker.operations.workers_alive import workers
from linker.outbox.channels import CHANNELS, WEBHOOK
from linker.outbox.outbox_store import OutboxStore
from linker.outbox.webhooks import build_webhook
from linker.persistence.connection_store import ConnectionStore, backlog
from linker.persistence.incidents import latest_incident
from linker.persistence.mapping import shown
from linker.persistence.schema import compared
from linker.persistence.selections import has_problem_of
from linker.persistence.server_clock import shared_clock
from linker.persistence.tables import CONNECTION, OUTBOX, TROUBLED
from linker.settings import PERMISSIONS, Settings, is_at_example, load_settings, unknown_permissions
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
#: How many tokens are opened.
SAMPLE_ROWS = 1_000
#: What is due for longer than this while no worker is alive waits for nobody.
UNATTENDED_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at: what was found is a code with parameters, and its words are in the catalogue."""

    name: str
    status: Literal["ok", "care", "failed"]
    #: What was found.
    found: str
    params: dict[str, Any] = field(default_factory=dict)
    #: What the command ends with if this is the first thing that is wrong.
    code: int = OurFault.exit_code
    #: What went wrong while it was looked at; it has words of its own.
    error: LinkerError | None = None


def ok(name: str, found: str, **params: Any) -> Check:
    """All is well."""
    return Check(name=name, status="ok", found=found, params=params)


def warning(name: str, found: str, **params: Any) -> Check:
    """Nothing is broken, and somebody should have a look."""
    return Check(name=name, status="care", found=found, params=params)


def failure(name: str, found: str, code: int = OurFault.exit_code, **params: Any) -> Check:
    """This has to be mended."""
    return Check(name=name, status="failed", found=found, params=params, code=code)


def _error(name: str, error: LinkerError) -> Check:
    return Check(name=name, status="failed", found="error", code=error.exit_code, error=error)


async def run_checks(*, offline: bool = False) -> AsyncIterator[Check]:
    """Check everything, one thing after another; what stands on something broken is left out."""
    versions = dict.fromkeys(LIBRARIES, MISSING)
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    listed = ", ".join(f"{name} {found}" for name, found in versions.items())
    program = {"version": version(), "python": platform.python_version(), "libraries": listed}
    if missing := [name for name, found in versions.items() if found == MISSING]:
        yield warning("program", "incomplete", **program, missing=missing)
    else:
        yield ok("program", "complete", **program)
    try:
        settings = load_settings()
    except LinkerError as error:
        yield _error("settings", error)
        return
    yield ok("settings", "readable")
    async for check in _keys_and_database(settings):
        yield check
    for check in _what_customers_are_asked(settings):
        yield check
    for check in _webhook(settings):
        yield check
    try:
        accounts = AccountUrls(settings.workable_url).of(api.NO_ACCOUNT, api.ACCOUNTS_PATH)
    except LinkerError as error:
        yield _error("workable", error)
        return
    if not offline:
        async for check in _workable(str(accounts), settings.proxy_url):
            yield check


async def _keys_and_database(settings: Settings) -> AsyncIterator[Check]:
    cipher = None
    try:
        cipher = TokenCipher(settings.secret_keys)
        yield ok("keys", "set", count=len(cipher.key_ids), newest=cipher.newest)
    except LinkerError as error:
        yield _error("keys", error)
    try:
        database = Database(settings.database_url, settings.database_schema)
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
        yield failure("database", "no_folder", TryAgain.exit_code, folder=str(folder))
        return
    if not file.exists():
        yield ok("database", "not_made", database=name)
    else:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            yield warning("file", "open_to_others", mode=f"{mode:04o}")
        else:
            yield ok("file", "ours_alone", mode=f"{mode:04o}")
    free_bytes = shutil.disk_usage(folder).free
    gib = f"{free_bytes / 1024**3:.1f}"
    if free_bytes < LOW_DISK_BYTES / 10:
        yield failure("disk", "nearly_full", TryAgain.exit_code, gib=gib)
    elif free_bytes < LOW_DISK_BYTES:
        yield warning("disk", "low", gib=gib)
    else:
        yield ok("disk", "free", gib=gib)


async def _database(database: Database, cipher: TokenCipher | None, settings: Settings) -> AsyncIterator[Check]:
    schema = await database.run_in_thread(compared)
    if schema["state"] != "head":
        yield failure("database", f"schema_{schema['state']}", database=database.name)
        return
    # SQLite would refuse to begin; PostgreSQL refuses only what is written, on a standby for example
    read_only = await database.write(
        lambda transaction: (
            not database.is_sqlite
            and transaction.execute(text("SELECT current_setting('transaction_read_only')")).scalar() == "on"
        )
    )
    if read_only:
        yield failure("database", "read_only", TryAgain.exit_code, database=database.name)
    else:
        yield ok("database", "usable", database=database.name)
    if database.is_sqlite:
        found = await database.read(lambda transaction: transaction.execute(text("PRAGMA quick_check(1)")).scalar())
        if found == "ok":
            yield ok("integrity", "sound")
        else:
            yield failure("integrity", "damaged", driver=str(found))
        mode = await database.read(lambda transaction: transaction.execute(text("PRAGMA journal_mode")).scalar())
        if mode == "wal":
            yield ok("journal", "write_ahead")
        else:
            yield warning("journal", "other", mode=mode)
    now = (await shared_clock(database)).now()
    off = datetime.now(UTC) - now
    if abs(off) > MAX_CLOCK_SKEW:
        yield warning("database clock", "ahead" if off > timedelta(0) else "behind", seconds=abs(off).total_seconds())
    ahead = select(func.count()).select_from(CONNECTION).where(CONNECTION.c.updated_at > now + MAX_CLOCK_SKEW)
    if count := await database.read(lambda transaction: transaction.execute(ahead).scalar_one()):
        yield warning("stored times", "ahead", count=count)
    async for check in _contents(database, cipher, settings, now):
        yield check
    yield await _outbox(database, settings, now)


async def _contents(
    database: Database, cipher: TokenCipher | None, settings: Settings, now: datetime
) -> AsyncIterator[Check]:
    """Whether tokens open, due connections are attended, and one waits for an operator."""
    if cipher is not None:
        stored = await ConnectionStore(database).key_ids()
        missing, older = (sorted(stored - keys) for keys in (cipher.key_ids, {cipher.newest}))
        if missing:
            yield failure("stored keys", "missing", BadSettings.exit_code, keys=missing)
        elif older:
            yield warning("stored keys", "older", keys=older)
        else:
            yield ok("stored keys", "newest" if stored else "none")
        yield await _tokens(database, cipher, missing)
    states = select(CONNECTION.c.state, func.count()).group_by(CONNECTION.c.state).order_by(CONNECTION.c.state)
    counts = await database.read(lambda transaction: transaction.execute(states).all())
    counted = [f"{count} {state}" for state, count in counts]
    yield ok("connections", "counted", counts=counted) if counted else ok("connections", "none")
    async for check in _attendance(database, settings, now):
        yield check
    incident = await database.read(latest_incident)
    if incident is not None and incident.lasts:
        yield warning("incident", "lasts", began_at=incident.began_at.isoformat(timespec="seconds"))
    else:
        yield ok("incident", "none")
    ours = or_(has_problem_of({ProblemOwner.OPERATOR, ProblemOwner.US}), CONNECTION.c.troubled_since.is_not(None))
    query = select(func.count()).select_from(CONNECTION).where(text(TROUBLED), ours)
    if count := await database.read(lambda transaction: transaction.execute(query).scalar_one()):
        yield warning("operator", "waiting", count=count)
    else:
        yield ok("operator", "none")


async def _attendance(database: Database, settings: Settings, now: datetime) -> AsyncIterator[Check]:
    """Whether workers are alive, and what is due is attended."""
    waiting = await database.read(lambda transaction: backlog(transaction, now))
    lag = timedelta(seconds=waiting.lag_seconds)
    told = {"due": waiting.due, "lag_seconds": lag.total_seconds()}
    known = await database.read(workers)
    alive = sum(each.is_alive(now) for each in known)
    if alive:
        yield ok("workers", "alive", count=alive)
    elif known:
        yield warning("workers", "silent", last=f"{known[0].last_beat_at:%Y-%m-%d %H:%M:%S} UTC", worker=known[0].id)
    else:
        yield ok("workers", "none")
    if lag > UNATTENDED_AFTER and not alive:
        yield failure("due", "no_worker", TryAgain.exit_code, **told)
    elif lag > max(OVERDUE_AFTER, 10 * timedelta(seconds=settings.sweep_seconds)):
        yield failure("due", "overdue", TryAgain.exit_code, **told)
    else:
        yield ok("due", "in_time", **told) if waiting.due else ok("due", "nothing")


async def _tokens(database: Database, cipher: TokenCipher, missing: Collection[str]) -> Check:
    """Whether tokens really open: all of them, or a sample. One whose key is `missing` is told of by its key."""
    held = CONNECTION.c.token_sealed.is_not(None)
    query = select(CONNECTION.c.id, CONNECTION.c.token_sealed).where(held).order_by(func.random()).limit(SAMPLE_ROWS)
    sample = await database.read(lambda transaction: transaction.execute(query).all())
    broken = []
    for connection_id, sealed in sample:
        try:
            cipher.open(str(sealed), bound_to=str(connection_id))
        except SealBroken as error:
            if error.params.get("key") not in missing:
                broken.append(shown(connection_id))
    if broken:
        return failure("tokens", "broken", count=len(broken), sample=len(sample), connections=sorted(broken)[:5])
    return ok("tokens", "opened", sample=len(sample)) if sample else ok("tokens", "none")


async def _outbox(database: Database, settings: Settings, now: datetime) -> Check:
    """What the host was not told: what should have been posted long ago, what fails, and dead letters."""
    unclaimed = 0
    if settings.webhook_url:
        unclaimed = await OutboxStore(database, WEBHOOK).count_unclaimed(before=now - OVERDUE_AFTER, now=now)
    if unclaimed:
        return failure("outbox", "not_posted", TryAgain.exit_code, count=unclaimed)
    failing = select(func.count()).where(OUTBOX.c.hook_due_at.is_not(None), OUTBOX.c.hook_attempts > 0)
    if settings.webhook_url and (count := await database.read(lambda t: t.execute(failing).scalar_one())):
        return warning("outbox", "failing", count=count)
    dead = or_(*(channel.column(OUTBOX, "dead_at").is_not(None) for channel in CHANNELS))
    query = select(func.count()).select_from(OUTBOX).where(dead)
    if count := await database.read(lambda transaction: transaction.execute(query).scalar_one()):
        return warning("outbox", "dead", count=count)
    return ok("outbox", "none_dead")


def _what_customers_are_asked(settings: Settings) -> Iterator[Check]:
    if is_at_example(settings.recruiter_email):
        yield warning("recruiter e-mail", "example", email=settings.recruiter_email)
    unknown = unknown_permissions(settings.permissions)
    if unknown:
        yield warning("permissions", "unknown", names=", ".join(unknown), known=", ".join(PERMISSIONS))


def _webhook(settings: Settings) -> Iterator[Check]:
    """Half a webhook is none; the receiver is not called."""
    if settings.webhook_url is None:
        if settings.webhook_secret:
            yield warning("webhook", "no_url")
        return
    try:
        webhook = build_webhook(settings, SystemClock())
    except LinkerError as error:
        yield _error("webhook", error)
        return
    assert webhook is not None, "a URL is set"
    yield ok("webhook", "set", origin=webhook.origin, count=len(webhook.signers))


async def _workable(url: str, proxy: str | None) -> AsyncIterator[Check]:
    """Ask which accounts no token reaches: Workable refuses that with 401, in JSON, and tells its time."""
    try:
        async with httpx.AsyncClient(transport=build_transport(proxy=proxy), trust_env=False) as http:
            answer = await http.get(url, headers={"Accept": "application/json"}, timeout=CALL_TIMEOUT_SECONDS)
            now = datetime.now(UTC)
    except (httpx.HTTPError, *TRANSPORT_TROUBLE) as error:
        yield failure("workable", "unreachable", TryAgain.exit_code, url=url, error=trouble_name(error))
        return
    kind = answer.headers.get("content-type", "no type").partition(";")[0]
    if answer.status_code == 401 and kind == "application/json":
        yield ok("workable", "reached", url=url)
    else:
        yield failure("workable", "odd", TryAgain.exit_code, url=url, status=answer.status_code, kind=kind)
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return
    off = now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    if abs(off) <= MAX_CLOCK_SKEW:
        yield ok("clock", "agrees")
    else:
        yield failure("clock", "ahead" if off > timedelta(0) else "behind", seconds=abs(off).total_seconds())
