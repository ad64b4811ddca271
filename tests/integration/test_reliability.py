"""A part of what docs/reliability.md counts, at each change."""

import pytest

from scripts.trials.run import PAGE, TRIALS, run


@pytest.mark.parametrize("name", sorted(TRIALS.keys() - {"kills", "loops"}))
async def test_nothing_is_lost_and_nothing_is_wrong(name: str) -> None:
    """Kills and answers that take long have tests of their own."""
    outcome = (await run([name], quick=True))[name]
    assert outcome.wrong == []
    assert outcome.lost == 0
    assert outcome.tried >= TRIALS[name].quick


def test_the_page_has_every_trial() -> None:
    """It is written by the command, and has lost nothing."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][
        1:
    ]
    assert [row[0].strip() for row in rows] == list(TRIALS)
    assert {(row[2].strip(), row[3].strip()) for row in rows} == {("0", "0")}
