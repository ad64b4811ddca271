import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from linker import Linker, Refused, Settings, new_key
from linker.engine.observer import UNWATCHED, Work
from linker.telemetry.tracing import Tracing
from linker.testing import ScriptedWorkable, SettableClock
from states.verdicts import RecruiterSeen, Unavailable

CANARY = "CANARY0123456789abcdefTOKEN"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where the spans go."""
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Iterator[Tracing]:
    """An observer with a provider of its own: the process has none."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Tracing(provider)
    provider.shutdown()


def named(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    """The finished spans by name."""
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def parents(exporter: InMemorySpanExporter) -> set[tuple[str, str | None]]:
    """Each kind of span with the kind of its parent."""
    by_id = {span.context.span_id: span.name for span in exporter.get_finished_spans() if span.context}
    return {(s.name, by_id[s.parent.span_id] if s.parent else None) for s in exporter.get_finished_spans()}


def a_linker(workable: ScriptedWorkable, clock: SettableClock, tracing: Tracing | None) -> Linker:
    """A linker in memory that is observed."""
    settings = Settings(database_url="sqlite://", secret_keys=(new_key(),))
    return Linker(settings, workable=workable, clock=clock, observer=tracing)


async def test_spans_form_the_tree_of_the_work(exporter: InMemorySpanExporter, tracing: Tracing) -> None:
    """What a person does and each pass are roots; claims, calls and settles are theirs; nothing tells a secret."""
    workable, clock = ScriptedWorkable(), SettableClock()
    async with a_linker(workable, clock, tracing) as linker:

        @linker.on("linked")
        async def told(announcement: object) -> None:
            await asyncio.sleep(0)

        opened = await linker.create(owner="owner-of-canary")
        exporter.clear()
        waiting = await linker.submit_token(opened.id, subdomain="acme", token=CANARY)
        assert parents(exporter) == {
            ("linker.submit_token", None),
            ("linker.claim", "linker.submit_token"),
            ("linker.call", "linker.submit_token"),
            ("linker.settle", "linker.submit_token"),
        }
        [submitted] = named(exporter)["linker.submit_token"]
        assert dict(submitted.attributes or {}) == {"linker.connection_id": opened.id}
        before = exporter.get_finished_spans()
        exporter.clear()
        clock.advance(hours=1)
        workable.will_say(RecruiterSeen("recruiter-1"))
        await linker.attend_due()
        await linker.deliver()
        assert parents(exporter) == {
            ("linker.sweep", None),
            ("linker.claim", "linker.sweep"),
            ("linker.call", "linker.sweep"),
            ("linker.settle", "linker.sweep"),
            ("linker.delivery", None),
        }
        spans = named(exporter)
        assert dict(spans["linker.call"][0].attributes or {}) == {
            "linker.question": "look",
            "linker.verdict": "recruiter_seen",
        }
        assert (spans["linker.sweep"][0].attributes or {})["linker.advanced"] == 1
        assert (spans["linker.delivery"][0].attributes or {})["linker.outcome"] == "delivered"
        assert waiting.recruiter is not None
        secrets = (CANARY, "owner-of-canary", "acme", waiting.recruiter.email)
        said = "".join(span.to_json() for span in (*before, *exporter.get_finished_spans()))
        assert [secret for secret in secrets if secret in said] == []


async def test_an_error_is_named_and_not_quoted(exporter: InMemorySpanExporter, tracing: Tracing) -> None:
    """A refused press is an error of its span, named by its code; foreign errors by their class."""
    async with a_linker(ScriptedWorkable(), SettableClock(), tracing) as linker:
        opened = await linker.create(owner="customer-1")
        with pytest.raises(Refused):
            await linker.confirm_recruiter(opened.id)
    [span] = named(exporter)["linker.confirm_recruiter"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert (span.attributes or {})["error.type"] == "refused"
    assert span.events == ()
    with pytest.raises(ValueError, match=CANARY), tracing.watch(Work.CLAIM):
        raise ValueError(CANARY)
    assert CANARY not in "".join(each.to_json() for each in exporter.get_finished_spans())


async def test_trouble_of_workable_is_a_verdict_and_no_error(exporter: InMemorySpanExporter, tracing: Tracing) -> None:
    """A Workable that is down is an answer: the span of the call says which."""
    workable = ScriptedWorkable()
    workable.will_say(Unavailable())
    async with a_linker(workable, SettableClock(), tracing) as linker:
        opened = await linker.create(owner="customer-1")
        await linker.submit_token(opened.id, subdomain="acme", token="a-token-of-acme")
    [call] = named(exporter)["linker.call"]
    assert (call.attributes or {})["linker.verdict"] == "unavailable"
    assert call.status.status_code is StatusCode.UNSET


def test_without_a_provider_no_span_is_made() -> None:
    """The API alone, without an SDK that takes spans, costs a look at it for each claim, and nothing for each call."""
    tracing = Tracing()
    assert tracing.watch(Work.CLAIM) is UNWATCHED
    assert tracing.watch(Work.CALL, question="look") is UNWATCHED
    tracing.leases_lost(1)
