"""A Workable to develop and test against: the same paths, shapes and refusals, with faults on demand.

`World` holds what is so, `Sandbox` answers from it as an ASGI app, `running` and `serve` put it on a socket:

    world = World()
    world.add_account("acme", name="Acme Robotics")
    world.add_token("acme", "a-token", scopes={"r_jobs"})
    with running(world) as url:  # "http://127.0.0.1:PORT/{subdomain}", goes into LINKER_WORKABLE_URL
        world.fail("acme", Fault.SERVER_ERROR, times=2)
        ...
        assert world.requests(subdomain="acme", path="/recruiters")
"""

from typing import TYPE_CHECKING

from linker.sandbox import seed
from linker.sandbox.faults import EVERYWHERE, Fault, FaultRule
from linker.sandbox.limits import Limit
from linker.sandbox.models import (
    SCOPES,
    Account,
    Candidate,
    Job,
    JobState,
    Member,
    Recruiter,
    Token,
    WorldError,
    fingerprint,
)
from linker.sandbox.request_log import LogEntry
from linker.sandbox.world import World
from linker.version import from_extra

if TYPE_CHECKING:
    from linker.sandbox.app import Sandbox
    from linker.sandbox.serving import HOST, PORT, running, serve

__all__ = [
    "EVERYWHERE",
    "HOST",
    "PORT",
    "SCOPES",
    "Account",
    "Candidate",
    "Fault",
    "FaultRule",
    "Job",
    "JobState",
    "Limit",
    "LogEntry",
    "Member",
    "Recruiter",
    "Sandbox",
    "Token",
    "World",
    "WorldError",
    "fingerprint",
    "running",
    "seed",
    "serve",
]

#: What needs the extra `sandbox`: a world alone can be made and asked without it.
_SERVED = {"HOST": "serving", "PORT": "serving", "Sandbox": "app", "running": "serving", "serve": "serving"}

if not TYPE_CHECKING:  # type checkers would take it for a promise of every name

    def __getattr__(name: str) -> object:
        """Import what serves pages when it is asked for. Raises ExtraMissing."""
        if name not in _SERVED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(from_extra("sandbox", f"linker.sandbox.{_SERVED[name]}"), name)
