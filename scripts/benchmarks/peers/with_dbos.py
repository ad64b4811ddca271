"""The three steps as a workflow of DBOS Transact.

Workflows are started in the background with `start_workflow` and run in its pool of threads. Of the ways that its
documentation offers this persisted most steps here: more than asynchronous workflows 10, 20 or 50 at a time, than a
queue that is filled while it is worked off, and than one that is filled before the clock starts. The clock starts once
DBOS is launched and stops when the last workflow has its result. A step that is recorded counts as a transition; the
two further commits that each workflow needs are not counted.
"""

from __future__ import annotations

import time

import psycopg
from dbos import DBOS, DBOSConfig

from scripts.benchmarks.peers import contract

#: As many as its pool of connections to the database holds by default.
THREADS = 20

COUNT = "SELECT count(*) FROM dbos.operation_outputs"


def accept_token(number: int) -> str:
    """The first step: nothing is asked of anybody."""
    return f"account-{number}"


def prepare_recruiter(number: int) -> str:
    """The second step."""
    return f"ats+{number}@inbound.example.com"


def find_recruiter(number: int) -> str:
    """The third step."""
    return f"recruiter-{number}"


STEPS = tuple(DBOS.step()(step) for step in (accept_token, prepare_recruiter, find_recruiter))


def link(number: int) -> None:
    """The workflow: one step after the other."""
    for step in STEPS:
        step(number)


def workflows(url: str, connections: int) -> float:
    """Run every workflow; gives the seconds."""
    workflow = DBOS.workflow()(link)
    config = DBOSConfig(name="bench", system_database_url=url, max_executor_threads=THREADS, log_level="WARNING")
    DBOS(config=config)
    DBOS.launch()
    began = time.perf_counter()
    handles = [DBOS.start_workflow(workflow, number) for number in range(connections)]
    for handle in handles:
        handle.get_result()
    seconds = time.perf_counter() - began
    DBOS.destroy()
    return seconds


def recorded(url: str) -> int:
    """How many steps the database holds."""
    with psycopg.connect(url) as connection:
        row = connection.execute(COUNT).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    asked = contract.asked()
    seconds = workflows(asked.url, asked.connections)
    contract.report("dbos", persisted=recorded(asked.url), connections=asked.connections, seconds=seconds)
