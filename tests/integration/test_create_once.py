"""Opening a connection by a key of the host's: however often and by however many it is called, there is one."""

import asyncio

import pytest

from linker import BadInput, Linker, RowUnreadable, Settings, new_key
from linker.database.database import Database
from linker.persistence import schema
from linker.testing import ScriptedWorkable, SettableClock


@pytest.fixture
def settings(database_url: str) -> Settings:
    """A database that is ready, on each engine."""
    database = Database(database_url)
    schema.upgrade(database)
    database.close()
    return Settings(database_url=database_url, secret_keys=(new_key(),))


async def test_the_same_key_gives_the_same_connection(settings: Settings) -> None:
    """Unchanged, with one step and one announcement, whatever else is said the second time."""
    async with Linker(settings, workable=ScriptedWorkable(), clock=SettableClock()) as linker:
        first = await linker.create(owner="customer-1", key="workable", metadata={"plan": "pro"})
        again = await linker.create(owner="customer-1", key="workable", metadata={"plan": "free"})
        assert again == first
        assert (first.key, first.metadata) == ("workable", {"plan": "pro"})
        assert len(await linker.history(first.id)) == 1
        others = [await linker.create(owner="customer-1", key=key) for key in (None, None, "another")]
        others.append(await linker.create(owner="customer-2", key="workable"))
        assert len({first.id, *(one.id for one in others)}) == 5
        assert len(await linker.find()) == 5
    assert await announced(settings) == 5


async def announced(settings: Settings) -> int:
    """How many announcements there are."""
    database = Database(settings.database_url)
    rows = database.read_here(lambda c: c.exec_driver_sql("SELECT count(*) FROM linker_outbox").scalar_one())
    database.close()
    return int(rows)


async def test_one_that_was_unlinked_gives_its_key_free(settings: Settings) -> None:
    """A customer who comes back gets a new connection, under the same key."""
    async with Linker(settings, workable=ScriptedWorkable()) as linker:
        first = await linker.create(owner="customer-1", key="workable")
        await linker.unlink(first.id)
        second = await linker.create(owner="customer-1", key="workable")
        assert second.id != first.id
        assert await linker.create(owner="customer-1", key="workable") == second


async def test_a_damaged_one_is_told_as_such(settings: Settings) -> None:
    """Without a word of what stands in it."""
    async with Linker(settings, workable=ScriptedWorkable()) as linker:
        first = await linker.create(owner="customer-1", key="workable")
        database = Database(settings.database_url)
        database.write_here(lambda c: c.exec_driver_sql("UPDATE linker_connection SET state = 'hibernating'"))
        database.close()
        with pytest.raises(RowUnreadable) as caught:
            await linker.create(owner="customer-1", key="workable")
        assert caught.value.params["id"] == first.id
        assert "hibernating" not in f"{caught.value!r} {caught.value}"


async def test_many_at_once_make_one(settings: Settings) -> None:
    """Several workers of a host, each with a linker of its own."""
    linkers = [Linker(settings, workable=ScriptedWorkable()) for _ in range(3)]
    for linker in linkers:
        await linker.__aenter__()
    made = await asyncio.gather(
        *(linker.create(owner="customer-1", key="workable") for linker in linkers for _ in range(10))
    )
    for linker in linkers:
        await linker.__aexit__(None, None, None)
    assert len({one.id for one in made}) == 1
    assert await announced(settings) == 1


@pytest.mark.parametrize(
    ("key", "reason"), [("", "empty"), ("  ", "empty"), ("a\nb", "unprintable"), ("x" * 501, "too_long")]
)
async def test_a_key_is_a_line_of_text(settings: Settings, key: str, reason: str) -> None:
    """What is none is refused by the field's name, and nothing is made."""
    async with Linker(settings, workable=ScriptedWorkable()) as linker:
        with pytest.raises(BadInput) as refused:
            await linker.create(owner="customer-1", key=key)
        assert (refused.value.field, refused.value.reason) == ("key", reason)
        assert await linker.find() == []
