"""What is no selector is bad input by its field, and what can be no id is not found: on both databases the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from linker import BadInput, Linker, NotFound, Settings, Verb, new_key
from linker.database.database import Database
from linker.engine.ports import Selection
from linker.operations.selectors import selection
from linker.persistence import schema
from linker.testing import ScriptedWorkable

NO_IDS = ["", "\x00", "con_\ud800", "con_é", "x" * 101, "con_\u202e"]


@pytest.fixture
async def linker(database_url: str) -> AsyncIterator[Linker]:
    """A linker on each engine, with one connection."""
    database = Database(database_url)
    schema.upgrade(database)
    database.close()
    settings = Settings(database_url=database_url, secret_keys=(new_key(),))
    async with Linker(settings, workable=ScriptedWorkable()) as opened:
        await opened.create(owner="customer-1", metadata={"plan": "large"})
        yield opened


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        ({"metadata": {"plan": "\x00"}}, "metadata", "null_character"),
        ({"metadata": {"plan": "\ud800"}}, "metadata", "half_character"),
        ({"metadata": {"plan\x00": "large"}}, "metadata", "control_characters"),
        ({"metadata": {"plan": 5}}, "metadata", "not_texts"),
        ({"metadata": "plan"}, "metadata", "not_texts"),
        ({"ids": [5]}, "id", "not_text"),
        ({"after": 5}, "after", "not_text"),
        ({"after": "\x00"}, "after", "no_cursor"),
        ({"after": "\ud800@2026-01-01"}, "after", "no_cursor"),
        ({"text": "\x00"}, "text", "unprintable"),
        ({"owner": 5}, "owner", "not_text"),
        ({"state": 5}, "state", "unknown"),
        ({"older_than": 5}, "older_than", "not_a_span_of_time"),
        ({"expires_within": 5}, "expires_within", "not_a_span_of_time"),
        ({"due_before": 5}, "due_before", "not_a_time"),
    ],
    ids=ascii,
)
async def test_what_is_no_selector_is_bad_input(linker: Linker, words: Any, field: str, reason: str) -> None:
    """With its field and the reason, never as a fault of the database's."""
    with pytest.raises(BadInput) as refused:
        await linker.find(**words)
    assert (refused.value.field, refused.value.reason) == (field, reason)
    assert str(refused.value)


async def test_what_can_be_no_id_is_in_no_selection(linker: Linker) -> None:
    """It finds nothing beside what is there, and a plan says of it that it was not found."""
    [there] = await linker.find()
    wanted = selection(linker.clock.now(), ids=[*NO_IDS, there.id])
    assert await linker.find(ids=wanted.ids) == [there]
    plan = await linker.plan(Verb.PAUSE, wanted, actor="ann", reason="a test")
    assert {item.id: item.skipped for item in plan.items} == {there.id: None} | dict.fromkeys(NO_IDS, "not_found")


@pytest.mark.parametrize("odd", NO_IDS, ids=ascii)
async def test_what_can_be_no_id_is_not_found(linker: Linker, odd: str) -> None:
    """By whichever verb it is named, of connections and of operations."""
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: linker.get(odd),
        lambda: linker.whole_id(odd),
        lambda: linker.explain(odd),
        lambda: linker.advance(odd),
        lambda: linker.pause(odd),
        lambda: linker.set_metadata(odd, {}),
        lambda: linker.operation(odd),
        lambda: linker.stop_operation(odd),
        lambda: linker.resume_operation(odd),
    ]
    for ask in asked:
        with pytest.raises(NotFound):
            await ask()
    assert (await linker.page(Selection(ids=(odd,)))).found == []
