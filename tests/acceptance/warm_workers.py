"""`linker worker` in a moment: forked from a process that has imported everything, a hundredth of the work of a start.

`python -m tests.acceptance.warm_workers` reads jobs from its standard input, one JSON object in a line, and answers the
process id of each. What is forked runs the command `linker worker` with the variables of the job. In two ways its
machine may be made to go wrong before: its clock may be `clock` seconds off, and names that do not exist may be looked
up, which works as long as there is no file `dns_gone`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import httpx

from linker.cli.commands import worker as _running  # noqa: F401 - the command imports it when it is called, we before
from linker.cli.main import main as linker_command

#: A host name that only `resolve_names` knows.
NAME = "workable.localhost"

Job = dict[str, Any]


class _LikeDatetime(type):
    """What is a time stays one, whoever made it."""

    def __instancecheck__(cls, given: object) -> bool:
        return isinstance(given, datetime)


def set_clock(seconds: float) -> None:
    """Let the machine's clock be off, as every module of this process reads it; the monotonic clock is untouched."""
    ahead, right = timedelta(seconds=seconds), time.time

    class Wrong(datetime, metaclass=_LikeDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + ahead

    for module in list(sys.modules.values()):
        if getattr(module, "datetime", None) is datetime and module.__name__ != __name__:
            setattr(module, "datetime", Wrong)  # noqa: B010 - a class is put in another one's place
    setattr(time, "time", lambda: right() + seconds)  # noqa: B010


def resolve_names(gone: Path) -> None:
    """Know `NAME`, unless the file is there; each question is written down beside it, a byte for each."""
    asked = gone.with_suffix(".asked")
    real = socket.getaddrinfo

    def look_up(host: Any, *given: Any, **more: Any) -> Any:
        if host != NAME:
            return real(host, *given, **more)
        with asked.open("ab") as counted:
            counted.write(b".")
        if gone.exists():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", *given, **more)

    setattr(socket, "getaddrinfo", look_up)  # noqa: B010


def work(job: Job) -> None:
    """Be `linker worker`, in the surroundings of the job."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    written = os.open(job["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.environ.update(job["env"])
    if job.get("clock"):
        set_clock(job["clock"])
    if job.get("dns_gone"):
        resolve_names(Path(job["dns_gone"]))
    os._exit(linker_command(["worker"]))


def main() -> None:
    """Fork a worker for each job; those that end are forgotten by the system at once."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    trusted = httpx.create_ssl_context()  # made once: making it takes longer than all else
    httpx.create_ssl_context = lambda *_, **__: trusted
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                work(json.loads(line))
            except BaseException:  # noqa: BLE001 - the test reads it in the log
                traceback.print_exc()
            os._exit(70)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
