"""The demonstration, scene by scene: people do something, and what the system says of it is read back and shown.

Nothing that happens is written here: every line below a scene's title comes from the store or from a handler. Each
scene makes sure that what it shows is so, and the play ends with `PlayFailed` if it is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from linker.cli.terminal.connection_views import details, state_text
from linker.cli.terminal.output import Output
from linker.engine.ports import Announcement
from linker.humanize import relative
from linker.linker import Linker
from linker.sandbox import EVERYWHERE, Fault, World, seed
from states.connection import Connection, ConnectionState
from states.history import Step
from states.problems import ProblemCode

#: How long a viewer gets for reading a scene, and how long anything may take, in seconds.
READING = 0.6
PATIENCE = 12.0
#: How often the store is looked at while the heartbeat works, in seconds.
LOOKING = 0.1

CUSTOMER = "customer"


class PlayFailed(Exception):
    """Something did not come as it should have."""


@dataclass(kw_only=True)
class Outcome:
    """What the play came to."""

    connection: Connection
    steps: list[Step]
    seconds: float
    calls: int
    announcements: list[str]
    scenes: list[dict[str, Any]]


@dataclass
class Play:
    """Plays once."""

    output: Output
    linker: Linker
    world: World
    folder: Path
    _id: str = ""
    _started: float = 0.0
    _last_seq: int = 0
    _last_attempts: int = 0
    _scenes: list[dict[str, Any]] = field(default_factory=list)
    _announced: list[Announcement] = field(default_factory=list)

    async def run(self) -> Outcome:
        """Play all scenes. Raises PlayFailed."""
        self.linker.on("linked")(self._announced.append)
        async with self.linker, self.linker.heartbeat():
            await self._open()
            await self._wrong_token()
            await self._missing_permission()
            await self._workable_down()
            await self._workable_back()
            await self._too_early()
            await self._slip()
            await self._capitals()
            outcome = await self._outcome()
        _require(seed.ACME_TOKEN.encode() not in b"".join(_files(self.folder)), "the token is in the database's files")
        return outcome

    # the scenes

    async def _open(self) -> None:
        async with self._scene("You open a connection for your customer, Acme Robotics"):
            self._started = time.monotonic()
            self._id = (await self.linker.create(owner="acme-robotics")).id
            self._say(Text.assemble("its id is ", (self._id, "copy")))

    async def _wrong_token(self) -> None:
        async with self._scene("The customer pastes a token, but not all of it"):
            await self._expect(ProblemCode.TOKEN_REFUSED, await self._submit(seed.ACME_TOKEN[:-1]))

    async def _missing_permission(self) -> None:
        async with self._scene("A whole token now, made without the permission that is needed"):
            await self._expect(ProblemCode.SCOPE_MISSING, await self._submit(seed.ACME_TOKEN_WITHOUT_SCOPE))

    async def _workable_down(self) -> None:
        async with self._scene("The right token at last, and at this moment Workable goes down"):
            self.world.fail(EVERYWHERE, Fault.UNAVAILABLE)
            connection = await self._submit(seed.ACME_TOKEN)
            await self._expect(ProblemCode.WORKABLE_UNAVAILABLE, connection)
            _require(connection.candidate is not None, "the token was not kept")
            await self._watch("the heartbeat tries again …", lambda now: now.attempts > connection.attempts)

    async def _workable_back(self) -> None:
        async with self._scene("Workable is back; the customer has gone to lunch"):
            self.world.heal()
            found = await self._watch("the heartbeat tries again …", _is(ConnectionState.AWAITING_RECRUITER))
            _require(found.recruiter is not None, "no recruiter was issued")
            assert found.recruiter is not None
            self._say(Text("The dialog shows what to add as an external recruiter in Workable:"))
            self._say(Text.assemble(("name    ", "label"), (found.recruiter.name, "copy")))
            self._say(Text.assemble(("e-mail  ", "label"), (found.recruiter.email, "copy")))

    async def _too_early(self) -> None:
        async with self._scene("“Set up integration” is pressed, before anybody was added"):
            await self._expect(ProblemCode.RECRUITER_ABSENT, await self._confirm())

    async def _slip(self) -> None:
        async with self._scene("The customer adds the recruiter, with a slip in the e-mail, and presses again"):
            name, email = await self._recruiter()
            self.world.add_recruiter(seed.ACME, name=name, email=email.replace("inbound", "inbuond"))
            connection = await self._confirm()
            await self._expect(ProblemCode.RECRUITER_ABSENT, connection)
            _require("almost" in str(connection.problem and connection.problem.detail), "the slip was not noticed")

    async def _capitals(self) -> None:
        async with self._scene("The customer mends it, in capitals, and closes the browser"):
            name, email = await self._recruiter()
            self.world.remove_recruiter(seed.ACME, email.replace("inbound", "inbuond"))
            self.world.add_recruiter(seed.ACME, name=name, email=email.upper())
            await self._watch("the heartbeat looks …", _is(ConnectionState.LINKED))
            await self._told()

    async def _told(self) -> None:
        """Wait for the handler that was registered with `on("linked")`."""
        await self._until(lambda: bool(self._announced), 'the handler of on("linked") was not called')
        told = self._announced[0]
        account = told.payload["data"]["account"]
        who = f"{told.type}, {account['name']} ({account['id']})"
        self._say(Text.assemble(('your handler of on("linked") was called: ', "good"), who))

    # what people do

    async def _submit(self, token: str) -> Connection:
        given = SecretStr(token)
        return await self.linker.submit_token(self._id, subdomain=seed.ACME, token=given, actor=CUSTOMER)

    async def _confirm(self) -> Connection:
        return await self.linker.confirm_recruiter(self._id, actor=CUSTOMER)

    async def _recruiter(self) -> tuple[str, str]:
        recruiter = (await self.linker.get(self._id)).recruiter
        assert recruiter is not None, "it was issued in the scene before"
        return recruiter.name, recruiter.email

    # what is shown

    @asynccontextmanager
    async def _scene(self, title: str) -> AsyncIterator[None]:
        """Show the title, let it happen, show the steps that it left in the history."""
        if not self.output.as_json:
            number = Text(f"{len(self._scenes) + 1} ", style="label")
            self.output.show(Text.assemble(number, (title, "title")))
        yield
        await self._show_news()
        connection = await self.linker.get(self._id)
        problem = connection.problem.code.value if connection.problem else None
        self._scenes.append({"title": title, "state": connection.state.value, "problem": problem})
        if not self.output.as_json:
            self.output.show(Text())
        if self.output.out.is_terminal:
            await asyncio.sleep(READING)

    def _say(self, line: Text) -> None:
        if not self.output.as_json:
            self.output.show(Padding(line, (0, 0, 0, 4), expand=False))

    async def _show_news(self) -> None:
        """The steps that were written since the last look."""
        for step in await self.linker.history(self._id):
            if step.seq > self._last_seq:
                self._last_seq = step.seq
                self._show_step(step)

    def _show_step(self, step: Step) -> None:
        if self.output.as_json:
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, min_width=20)
        grid.add_column(no_wrap=True, min_width=18)
        grid.add_column(overflow="fold")
        seen = "; ".join([step.actor, *details(step)])
        grid.add_row(Text(step.event), state_text(step.target), Text(seen, style="quiet"))
        self.output.show(Padding(grid, (0, 0, 0, 2), expand=False))

    async def _expect(self, code: ProblemCode, connection: Connection) -> None:
        """Make sure that the connection names this problem, and show how it is told."""
        await self._show_news()
        problem = connection.problem
        _require(problem is not None and problem.code is code, f"{code} was expected, and {problem} came")
        assert problem is not None
        advice = problem.advice
        field_ = f" (at the field {advice.field})" if advice.field else ""
        self._say(Text.assemble((problem.message, f"owner.{advice.owner.value}"), (field_, "quiet")))
        self._say(Text.assemble((f"{advice.owner.value}: ", "label"), advice.action))

    async def _watch(self, meanwhile: str, arrived: Callable[[Connection], bool]) -> Connection:
        """Look at the store until the heartbeat has got the connection somewhere, and show what it does."""
        self._last_attempts = (await self.linker.get(self._id)).attempts
        ends = time.monotonic() + PATIENCE
        with self.output.busy(f"    {meanwhile}"):
            while time.monotonic() < ends:
                connection = await self.linker.get(self._id)
                self._show_attempts(connection)
                await self._show_news()
                if arrived(connection):
                    return connection
                await asyncio.sleep(LOOKING)
        raise PlayFailed(f"after {PATIENCE:.0f} s the connection is still {connection.state}")

    def _show_attempts(self, connection: Connection) -> None:
        """A try that ended without an answer leaves no step each time: it is counted in the row."""
        if connection.attempts > self._last_attempts and connection.due_at is not None:
            due = relative(connection.due_at, datetime.now(UTC))
            self._say(Text(f"heartbeat: try {connection.attempts} without an answer, the next {due}", style="quiet"))
        self._last_attempts = connection.attempts

    async def _until(self, happened: Callable[[], bool], otherwise: str) -> None:
        ends = time.monotonic() + PATIENCE
        while not happened():
            _require(time.monotonic() < ends, otherwise)
            await asyncio.sleep(LOOKING)

    async def _outcome(self) -> Outcome:
        connection = await self.linker.get(self._id)
        _require(connection.state is ConnectionState.LINKED, f"it is {connection.state}, not linked")
        refused = [entry for entry in self.world.log if entry.status == 429]
        _require(not refused, "Workable's limit of calls was reached")
        return Outcome(
            connection=connection,
            steps=await self.linker.history(self._id),
            seconds=time.monotonic() - self._started,
            calls=len(self.world.log),
            announcements=[told.type for told in self._announced],
            scenes=self._scenes,
        )


def _is(state: ConnectionState) -> Callable[[Connection], bool]:
    return lambda connection: connection.state is state


def _require(so: bool, otherwise: str) -> None:
    if not so:
        raise PlayFailed(otherwise)


def _files(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()]
