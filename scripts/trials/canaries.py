"""A canary for a token: after odd answers and odd deeds everything that is left is searched for it."""

from __future__ import annotations

import itertools
import json
import logging
import random
import secrets
from collections.abc import Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from pydantic import SecretStr

from linker import Linker, Settings, new_key
from linker.serialization import connection_json, step_json
from linker.testing import SettableClock
from scripts.trials.answers import BODIES, HEADERS, STATUSES, Odd
from scripts.trials.outcome import Outcome
from tests.acceptance.leaks import Listener, Places, Secret

CANARY = f"CANARY{secrets.token_hex(24)}TOKEN"
#: So many answers are given before everything is searched.
ANSWERS_AT_A_TIME = 10


async def run(most: int) -> Outcome:
    """Search so many places."""
    outcome, dice, key = Outcome(), random.Random(18), new_key()
    every = list(itertools.product(STATUSES, BODIES.values(), HEADERS.values()))
    sought = {"the token": Secret(CANARY), "the key": Secret(key.get_secret_value())}
    was_disabled = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    try:
        while outcome.tried < most:
            with TemporaryDirectory() as folder:
                settings = Settings(database_url=f"sqlite:///{folder}/linker.db", secret_keys=(key,))
                places = await left_by(dice.sample(every, ANSWERS_AT_A_TIME), settings, Path(folder))
            outcome.tried += len(places.found)
            for name, secret in sought.items():
                outcome.wrong += [f"{name} is in: {place}" for place in places.with_(secret)]
    finally:
        logging.disable(was_disabled)
    outcome.lost = len(outcome.wrong)
    return outcome


async def left_by(answers: list[tuple[int, bytes, dict[str, str]]], settings: Settings, folder: Path) -> Places:
    """Give these answers to questions with the canary; all that is left then in logs, files, errors and memory."""
    places, odd, clock = Places(), Odd(), SettableClock()
    with Listener() as listener:
        async with httpx.AsyncClient(transport=odd) as http, Linker(settings, http=http, clock=clock) as linker:
            linker.on("linked")(lambda told: places.add("announcement", json.dumps(dict(told.payload))))
            for number, (status, raw, headers) in enumerate(answers):
                opened = await linker.create(owner=f"owner-{number}")
                odd.answer = (status, headers, raw)
                for subdomain in (f"s{number}", CANARY):
                    await attempt(places, linker.submit_token(opened.id, subdomain=subdomain, token=SecretStr(CANARY)))
                odd.answer = None
                await attempt(places, linker.submit_token(opened.id, subdomain=f"s{number}", token=SecretStr(CANARY)))
                odd.answer = (status, headers, raw)
                await attempt(places, linker.confirm_recruiter(opened.id))
                clock.advance(hours=2)
                await attempt(places, linker.attend_due())
                steps = await linker.history(opened.id)
                places.add("JSON of a history", json.dumps([step_json(step) for step in steps]))
                places.add("JSON of a connection", json.dumps(connection_json(await linker.get(opened.id))))
            await linker.deliver()
            places.add_files(folder)
            places.add_objects()
    places.add_records(listener.records)
    return places


async def attempt(places: Places, deed: Awaitable[object]) -> None:
    """Await something; what comes of it is kept as everybody would show it."""
    try:
        places.add("result", repr(await deed))
    except Exception as error:  # noqa: BLE001 - whatever it is
        places.add_error(error)
