"""After a mismatch the token is kept for some minutes, sealed: whoever names its account does not paste it again."""

from collections.abc import AsyncIterator, Iterator

import pytest

from linker import BadInput, ConnectionState, Linker, ProblemCode, Settings, new_key
from linker.sandbox import Limit, World, running
from linker.testing import SettableClock
from states.events import Paused

TOKEN = "CANARY-token-of-globex"


@pytest.fixture
def workable_url() -> Iterator[str]:
    """A Workable with two accounts and a token of one of them."""
    world = World(limit=Limit.off())
    world.add_account("acme", name="Acme")
    world.add_account("globex", name="Globex")
    world.add_token("globex", TOKEN, scopes={"r_jobs"})
    with running(world) as url:
        yield url


@pytest.fixture
async def linker(workable_url: str, clock: SettableClock) -> AsyncIterator[Linker]:
    """A linker by a clock that stands still."""
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),), workable_url=workable_url)
    async with Linker(settings, clock=clock) as opened:
        yield opened


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands still."""
    return SettableClock()


async def mismatched(linker: Linker) -> str:
    """A connection whose token was given for the wrong account."""
    opened = await linker.create(owner="customer")
    told = await linker.submit_token(opened.id, subdomain="acme", token=TOKEN)
    assert told.problem is not None
    assert (told.problem.code, told.problem.params) == (
        ProblemCode.SUBDOMAIN_MISMATCH,
        {"belongs_to": ["globex"]},
    )
    assert TOKEN not in repr(told)
    return opened.id


async def test_naming_the_account_goes_on(linker: Linker) -> None:
    """With the subdomain alone, and once: it is the token in use then, and kept nowhere else."""
    connection_id = await mismatched(linker)
    connection = await linker.submit_token(connection_id, subdomain="globex", token=None)
    assert connection.state is ConnectionState.AWAITING_RECRUITER
    assert connection.subdomain == "globex"
    assert connection.held_token is None
    fresh = await linker.create(owner="another customer")
    with pytest.raises(BadInput) as refused:
        await linker.submit_token(fresh.id, subdomain="globex", token=None)
    assert (refused.value.field, refused.value.reason) == ("token", "not_held")


async def test_it_is_wiped_by_due_time(linker: Linker, clock: SettableClock) -> None:
    """A quarter of an hour later a pass wipes it, and the connection waits as before."""
    connection_id = await mismatched(linker)
    before = await linker.get(connection_id)
    clock.advance(minutes=14, seconds=59)
    await linker.attend_due()
    assert (await linker.get(connection_id)).held_token == before.held_token is not None
    clock.advance(seconds=2)
    await linker.attend_due()
    after = await linker.get(connection_id)
    assert (after.held_token, after.held_until, after.due_at) == (None, None, before.deadline)
    assert (await linker.history(connection_id))[-1].event == "held_token_wiped"


@pytest.mark.parametrize("deed", ["another token", "pause", "unlink"])
async def test_it_is_kept_only_while_it_may_be_used(linker: Linker, deed: str) -> None:
    """Another token in its place, a pause and the end wipe it at once."""
    connection_id = await mismatched(linker)
    if deed == "another token":
        await linker.submit_token(connection_id, subdomain="acme", token="no-token-of-anybody")
    elif deed == "pause":
        await linker.record(connection_id, lambda _: Paused(), actor="ann")
    else:
        await linker.unlink(connection_id)
    assert (await linker.get(connection_id)).held_token is None
