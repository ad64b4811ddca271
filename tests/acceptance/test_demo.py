"""The demonstration, as a stranger runs it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.acceptance.commands import Terminal

pytestmark = pytest.mark.slow


def test_the_demo_shows_the_whole_flow_in_time(tmp_path: Path) -> None:
    """Without any setting the demo ends linked within 15 s, and leaves nothing behind."""
    linker = Terminal(tmp_path)
    started = time.monotonic()
    ran = linker("demo", "--json")
    assert time.monotonic() - started < 15
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["linked"] is True
    assert ran.json["connection"]["state"] == "linked"
    assert ran.json["announcements"] == ["connection.linked"]
    assert [scene["problem"] for scene in ran.json["scenes"]] == [
        None,
        "token_refused",
        "scope_missing",
        "workable_unavailable",
        None,
        "recruiter_absent",
        "recruiter_absent",
        None,
    ]
    events = {step["event"]: step["actor"] for step in ran.json["history"]}
    assert events["token_accepted"] == events["recruiter_found"] == "heartbeat"
    assert list(tmp_path.iterdir()) == []


def test_the_demo_can_be_looked_at_afterwards(tmp_path: Path) -> None:
    """With --keep the database stays, and every step that was shown is in it."""
    linker = Terminal(tmp_path)
    ran = linker("demo", "--keep")
    assert ran.code == 0
    assert "is linked" in ran.out
    found = re.search(r"LINKER_DATABASE_URL=(\S+) \S+ show (\S+)", ran.err)
    assert found is not None
    shown = linker("show", found[2], "--json", database_url=found[1]).json
    assert shown["state"] == "linked"
    assert shown["recruiter"]["email"] in ran.out
    for step in linker("history", found[2], "--json", database_url=found[1]).json:
        assert ran.out.count(step["event"]) >= 1
