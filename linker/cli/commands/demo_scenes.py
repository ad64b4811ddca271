"""The demonstration, scene by scene: people do something, and what the system says of it is read back and shown.

Nothing that happens is written here: every line below a scene's title comes from the store or from a handler. Each
scene makes sure that what it shows is so, and the demonstration ends with `DemonstrationFailed` if it is not.
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
from linker.humanize import relative
from linker.linker import Linker
from linker.outbox.announcements import Announcement
from linker.sandbox import EVERYWHERE, Fault, World, seed
from linker.serialization import connection_json, step_json
from linker.wording import describe
from states.connection import Connection, ConnectionState
from states.history import Step
from states.problems import ProblemCode

#: How long a viewer gets for reading a scene, and how long anything may take.
READING_SECONDS = 0.6
PATIENCE_SECONDS = 12.0
#: How often the store is looked at while the heartbeat works.
LOOKING_SECONDS = 0.1

CUSTOMER = "customer"


class DemonstrationFailed(Exception):
    """Something did not come as it should have."""


@dataclass(kw_only=True)
class Outcome:
    """What the demonstration came to."""

    connection: Connection
    steps: list[Step]
    seconds: float
    calls: int
    announcements: list[str]
    scenes: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The outcome, as `linker demo --json` prints it."""
        return {
            "linked": True,
            "seconds": round(self.seconds, 1),
            "calls": self.calls,
            "scenes": self.scenes,
            "announcements": self.announcements,
            "connection": connection_json(self.connection),
            "history": [step_json(step) for step in self.steps],
        }


@dataclass
class Demonstration:
    """Shows the whole flow once."""

    output: Output
    linker: Linker
    world: World
    folder: Path
    _id: str = ""
    _last_seq: int = 0
    _scenes: list[dict[str, Any]] = field(default_factory=list)
    _announced: list[Announcement] = field(default_factory=list)

    async def run(self) -> Outcome:
        """Show all scenes. Raises DemonstrationFailed."""
        self.linker.on("linked")(self._announced.append)
        async with self.linker, self.linker.heartbeat():
            started = time.monotonic()
            await self._show_scenes()
            connection = await self.linker.get(self._id)
            steps = await self.linker.history(self._id)
            seconds = time.monotonic() - started
        _require(connection.state is ConnectionState.LINKED, f"it is {connection.state}, not linked")
        _require(all(entry.status != 429 for entry in self.world.log), "Workable's limit of calls was reached")
        files = [file.read_bytes() for file in sorted(self.folder.iterdir()) if file.is_file()]
        _require(seed.ACME_TOKEN.encode() not in b"".join(files), "the token is in the database's files")
        return Outcome(
            connection=connection,
            steps=steps,
            seconds=seconds,
            calls=len(self.world.log),
            announcements=[told.type for told in self._announced],
            scenes=self._scenes,
        )

    async def _show_scenes(self) -> None:
        async with self._scene("You open a connection for your customer, Acme Robotics"):
            self._id = (await self.linker.create(owner="acme-robotics")).id
            self._say(Text.assemble("its id is ", (self._id, "copy")))
        async with self._scene("The customer pastes a token, but not all of it"):
            await self._expect(ProblemCode.TOKEN_REFUSED, await self._submit(seed.ACME_TOKEN[:-1]))
        async with self._scene("A whole token now, made without the permission that is needed"):
            await self._expect(ProblemCode.SCOPE_MISSING, await self._submit(seed.ACME_TOKEN_WITHOUT_SCOPE))
        async with self._scene("The right token at last, and at this moment Workable goes down"):
            self.world.fail(EVERYWHERE, Fault.UNAVAILABLE)
            submitted = await self._submit(seed.ACME_TOKEN)
            await self._expect(ProblemCode.WORKABLE_UNAVAILABLE, submitted)
            _require(submitted.candidate is not None, "the token was not kept")
            await self._watch("the heartbeat tries again …", lambda now: now.attempts > submitted.attempts)
        async with self._scene("Workable is back; the customer has gone to lunch"):
            self.world.heal()
            await self._watch("the heartbeat tries again …", _is(ConnectionState.AWAITING_RECRUITER))
            recruiter = (await self.linker.get(self._id)).recruiter
            if recruiter is None:
                raise DemonstrationFailed("no recruiter was issued")
            name, email, with_a_slip = recruiter.name, recruiter.email, recruiter.email.replace("inbound", "inbuond")
            self._say(Text("The dialog shows what to add as an external recruiter in Workable:"))
            self._say(Text.assemble(("name    ", "label"), (name, "copy")))
            self._say(Text.assemble(("e-mail  ", "label"), (email, "copy")))
        async with self._scene("“Set up integration” is pressed, before anybody was added"):
            await self._expect(ProblemCode.RECRUITER_ABSENT, await self._confirm())
        async with self._scene("The customer adds the recruiter, with a slip in the e-mail, and presses again"):
            self.world.add_recruiter(seed.ACME, name=name, email=with_a_slip)
            connection = await self._confirm()
            await self._expect(ProblemCode.RECRUITER_ABSENT, connection)
            _require(
                connection.problem is not None and connection.problem.params.get("near_miss") == "slip",
                "the slip was not noticed",
            )
        async with self._scene("The customer mends it, in capitals, and closes the browser"):
            self.world.remove_recruiter(seed.ACME, with_a_slip)
            self.world.add_recruiter(seed.ACME, name=name, email=email.upper())
            await self._watch("the heartbeat looks …", _is(ConnectionState.LINKED))
            ends = time.monotonic() + PATIENCE_SECONDS
            while not self._announced:
                _require(time.monotonic() < ends, 'the handler of on("linked") was not called')
                await asyncio.sleep(LOOKING_SECONDS)
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

    # what is shown

    @asynccontextmanager
    async def _scene(self, title: str) -> AsyncIterator[None]:
        """Show the title, let it happen, show the steps that it left in the history."""
        if not self.output.as_json:
            number = Text(f"{len(self._scenes) + 1} ", style="label")
            self.output.show(Text.assemble(number, (title, "title")))
        yield
        await self._show_new_steps()
        connection = await self.linker.get(self._id)
        problem = connection.problem.code.value if connection.problem else None
        self._scenes.append({"title": title, "state": connection.state.value, "problem": problem})
        if not self.output.as_json:
            self.output.show(Text())
        if self.output.out.is_terminal:
            await asyncio.sleep(READING_SECONDS)

    def _say(self, line: Text) -> None:
        if not self.output.as_json:
            self.output.show(Padding(line, (0, 0, 0, 4), expand=False))

    async def _show_new_steps(self) -> None:
        """The steps that were written since the last look."""
        for step in await self.linker.history(self._id):
            if step.seq <= self._last_seq:
                continue
            self._last_seq = step.seq
            if not self.output.as_json:
                grid = Table.grid(padding=(0, 2))
                grid.add_column(no_wrap=True, min_width=20)
                grid.add_column(no_wrap=True, min_width=18)
                grid.add_column(overflow="fold")
                seen = "; ".join([step.actor, *details(step)])
                grid.add_row(Text(step.event), state_text(step.target), Text(seen, style="quiet"))
                self.output.show(Padding(grid, (0, 0, 0, 2), expand=False))

    async def _expect(self, code: ProblemCode, connection: Connection) -> None:
        """Make sure that the connection names this problem, and show how it is told."""
        await self._show_new_steps()
        problem = connection.problem
        if problem is None or problem.code is not code:
            raise DemonstrationFailed(f"{code} was expected, and {problem} came")
        words, owner = describe(problem), problem.owner.value
        at_field = f" (at the field {problem.field})" if problem.field else ""
        self._say(Text.assemble((words.message, f"owner.{owner}"), (at_field, "quiet")))
        self._say(Text.assemble((f"{owner}: ", "label"), words.action))

    async def _watch(self, meanwhile: str, arrived: Callable[[Connection], bool]) -> None:
        """Look at the store until the heartbeat has got the connection somewhere, and show what it does.

        A try that ended without an answer leaves no step each time: it is counted in the row.
        """
        attempts = (await self.linker.get(self._id)).attempts
        ends = time.monotonic() + PATIENCE_SECONDS
        with self.output.busy(f"    {meanwhile}"):
            while time.monotonic() < ends:
                connection = await self.linker.get(self._id)
                if connection.attempts > attempts and connection.due_at is not None:
                    due = relative(connection.due_at, datetime.now(UTC))
                    tried = f"heartbeat: try {connection.attempts} without an answer, the next {due}"
                    self._say(Text(tried, style="quiet"))
                attempts = connection.attempts
                await self._show_new_steps()
                if arrived(connection):
                    return
                await asyncio.sleep(LOOKING_SECONDS)
        raise DemonstrationFailed(f"after {PATIENCE_SECONDS:.0f} s the connection is still {connection.state}")


def _is(state: ConnectionState) -> Callable[[Connection], bool]:
    return lambda connection: connection.state is state


def _require(so: bool, otherwise: str) -> None:
    if not so:
        raise DemonstrationFailed(otherwise)
