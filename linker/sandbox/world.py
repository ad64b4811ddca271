"""The world behind the sandbox: accounts, tokens, recruiters, members, and what goes wrong.

Everything lives in memory and is guarded by one lock, so a test may change the world while a server in
another thread answers from it. Ids come from counters: the same calls in the same order give the same ids.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from linker.sandbox.faults import EVERYWHERE, Fault, FaultRule, FaultRules
from linker.sandbox.limits import Allowance, Limit, RateCounter
from linker.sandbox.models import (
    Account,
    Candidate,
    Job,
    JobState,
    Member,
    Recruiter,
    Token,
    WorldError,
    checked_email,
    checked_scopes,
    checked_secret,
    checked_subdomain,
    checked_text,
    fingerprint,
)
from linker.sandbox.request_log import LOG_ENTRIES, LONGEST_TEXT_CHARACTERS, LogEntry

#: Returns Unix seconds.
UnixClock = Callable[[], float]

#: What a token may do unless told: all that connecting needs (Workable's documentation).
DEFAULT_SCOPES = frozenset({"r_jobs"})

# Ids are hex text of these lengths on the real service; the first ones are the recorded shape with invented
# values.
_FIRST_ACCOUNT = 0xC71FA
_FIRST_MEMBER = 0x1F395D
_FIRST_RECRUITER = 0x2B81C0
_FIRST_JOB = 0x61884E
_FIRST_CANDIDATE = 0x1F3B2A0


class World:
    """Accounts and all that belongs to them, faults on demand, a rate limit and a log of requests.

    Every method that is given something impossible raises `WorldError` and changes nothing.
    """

    def __init__(
        self,
        *,
        clock: UnixClock = time.time,
        limit: Limit | None = None,
        log_length: int = LOG_ENTRIES,
    ) -> None:
        """Starts empty.

        `clock` returns Unix seconds and rules the rate-limit windows and the times in the log. `limit` is
        what Workable documents unless given. `log_length` is how many requests are remembered.
        """
        self.clock = clock
        self._lock = threading.RLock()
        self._faults = FaultRules()
        self._log: deque[LogEntry] = deque(maxlen=log_length)
        self._last_logged = 0
        self._rates = RateCounter(limit or Limit())
        self._empty()

    def _empty(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._tokens: dict[str, Token] = {}
        self._recruiters: dict[str, dict[str, Recruiter]] = {}
        self._members: dict[str, dict[str, Member]] = {}
        self._jobs: dict[str, dict[str, Job]] = {}
        self._candidates: dict[str, dict[str, Candidate]] = {}
        self._accounts_made = self._recruiters_made = self._members_made = self._tokens_made = 0
        self._jobs_made = self._candidates_made = 0

    def clear(self) -> None:
        """Empties the world: nothing in it, nothing wrong, the documented limit, ids from the start."""
        with self._lock:
            self._empty()
            self._faults.remove(subdomain=None, fault=None, number=None)
            self._log.clear()
            self._rates = RateCounter()

    # Accounts

    def add_account(self, subdomain: str, *, name: str, website_url: str | None = None) -> Account:
        """Opens an account; its id is made here, hex text."""
        with self._lock:
            checked_subdomain(subdomain)
            if subdomain in self._accounts:
                raise WorldError("subdomain", f"'{subdomain}' is taken")
            account = Account(
                subdomain=subdomain,
                id=f"{_FIRST_ACCOUNT + self._accounts_made:x}",
                name=checked_text("name", name),
                website_url=website_url,
            )
            self._accounts_made += 1
            self._accounts[subdomain] = account
            self._recruiters[subdomain] = {}
            self._members[subdomain] = {}
            self._jobs[subdomain] = {}
            self._candidates[subdomain] = {}
            return account

    @property
    def accounts(self) -> tuple[Account, ...]:
        """All accounts, in the order in which they were opened."""
        with self._lock:
            return tuple(self._accounts.values())

    def account(self, subdomain: str) -> Account | None:
        """Returns the account of `subdomain`, or None."""
        return self._accounts.get(subdomain)

    def rename_account(self, subdomain: str, new: str) -> Account:
        """Gives an account another subdomain, as an admin may; its tokens stay good.

        What the old address answers is not recorded. Here it is 422, unless a fault says otherwise.
        """
        with self._lock:
            self._existing(subdomain)
            if checked_subdomain(new) in self._accounts:
                raise WorldError("new", f"'{new}' is taken")
            account = replace(self._accounts.pop(subdomain), subdomain=new)
            self._accounts[new] = account
            self._recruiters[new] = self._recruiters.pop(subdomain)
            self._members[new] = self._members.pop(subdomain)
            self._jobs[new] = self._jobs.pop(subdomain)
            self._candidates[new] = self._candidates.pop(subdomain)
            for secret, token in self._tokens.items():
                if token.subdomain == subdomain:
                    self._tokens[secret] = replace(token, subdomain=new)
            return account

    def close_account(self, subdomain: str) -> Account:
        """Ends an account for good: its tokens reach none any more (what Workable answers then is not established)."""
        with self._lock:
            self._existing(subdomain)
            for kept in (self._recruiters, self._members, self._jobs, self._candidates):
                kept.pop(subdomain)
            return self._accounts.pop(subdomain)

    def _existing(self, subdomain: str) -> str:
        if subdomain not in self._accounts:
            raise WorldError("subdomain", f"there is no account '{subdomain}'; add it first")
        return subdomain

    # Tokens

    def add_token(self, subdomain: str, token: str | None = None, *, scopes: Iterable[str] = DEFAULT_SCOPES) -> Token:
        """Gives an account a token; without `token` one is made up, and returned as `secret`."""
        with self._lock:
            self._existing(subdomain)
            secret = checked_secret(f"sandbox-{subdomain}-{self._tokens_made + 1:04d}" if token is None else token)
            if secret in self._tokens:
                raise WorldError("token", "this token exists already")
            made = Token(
                secret=secret,
                fingerprint=fingerprint(secret),
                subdomain=subdomain,
                scopes=checked_scopes(frozenset(scopes)),
            )
            self._tokens_made += 1
            self._tokens[secret] = made
            return made

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens, revoked ones too, in the order in which they were made."""
        with self._lock:
            return tuple(self._tokens.values())

    def token(self, secret: str) -> Token | None:
        """Returns the token with this secret, revoked or not, or None."""
        return self._tokens.get(secret)

    def token_named(self, name: str) -> Token:
        """Returns the token whose fingerprint is `name`; raises `WorldError` when there is none."""
        for each in self.tokens:
            if each.fingerprint == name:
                return each
        raise WorldError("fingerprint", "no token has this fingerprint")

    def revoke_token(self, token: str) -> Token:
        """Revokes a token for good: it is refused like any wrong one. Revoking twice is no error."""
        return self._replaced_token(token, revoked=True)

    def set_scopes(self, token: str, scopes: Iterable[str]) -> Token:
        """Gives a token exactly these scopes."""
        return self._replaced_token(token, scopes=checked_scopes(frozenset(scopes)))

    def _replaced_token(
        self, secret: str, *, revoked: bool | None = None, scopes: frozenset[str] | None = None
    ) -> Token:
        with self._lock:
            before = self._tokens.get(secret)
            if before is None:
                raise WorldError("token", "there is no such token")
            after = replace(
                before,
                revoked=before.revoked if revoked is None else revoked,
                scopes=before.scopes if scopes is None else scopes,
            )
            self._tokens[secret] = after
            return after

    # Recruiters

    def add_recruiter(self, subdomain: str, *, name: str, email: str, shortcodes: Iterable[str] = ()) -> Recruiter:
        """Adds an external recruiter, as a person does in Workable's settings; no API call can.

        The e-mail keeps its letters as typed. `shortcodes` are the jobs that the recruiter is assigned to.
        """
        with self._lock:
            recruiters = self._recruiters[self._existing(subdomain)]
            address = checked_email(email)
            if any(each.email.casefold() == address.casefold() for each in recruiters.values()):
                raise WorldError("email", f"'{subdomain}' has a recruiter with this e-mail already")
            made = Recruiter(
                id=f"{_FIRST_RECRUITER + self._recruiters_made:x}",
                name=checked_text("name", name),
                email=address,
                shortcodes=frozenset(shortcodes),
            )
            self._recruiters_made += 1
            recruiters[made.id] = made
            return made

    def remove_recruiter(self, subdomain: str, who: str) -> Recruiter:
        """Removes a recruiter, named by its id or its e-mail in any case, and returns it."""
        with self._lock:
            recruiters = self._recruiters[self._existing(subdomain)]
            for each in recruiters.values():
                if each.id == who or each.email.casefold() == who.casefold():
                    return recruiters.pop(each.id)
            raise WorldError("recruiter", f"'{subdomain}' has no recruiter with this id or e-mail")

    def recruiters(self, subdomain: str) -> tuple[Recruiter, ...]:
        """Returns the recruiters of an account, oldest first; none for an unknown subdomain."""
        with self._lock:
            return tuple(self._recruiters.get(subdomain, {}).values())

    # Members

    def add_member(self, subdomain: str, *, name: str, email: str, role: str = "simple", active: bool = True) -> Member:
        """Adds a colleague with a login; adding the recruiter here is the mistake that people make."""
        with self._lock:
            members = self._members[self._existing(subdomain)]
            made = Member(
                id=f"{_FIRST_MEMBER + self._members_made:x}",
                name=checked_text("name", name),
                email=checked_email(email),
                role=checked_text("role", role),
                active=active,
            )
            self._members_made += 1
            members[made.id] = made
            return made

    def members(self, subdomain: str) -> tuple[Member, ...]:
        """Returns the members of an account, oldest first; none for an unknown subdomain."""
        with self._lock:
            return tuple(self._members.get(subdomain, {}).values())

    # Jobs and candidates

    def add_job(
        self, subdomain: str, *, title: str, shortcode: str | None = None, state: JobState = JobState.PUBLISHED
    ) -> Job:
        """Adds a job; without `shortcode` one is made up, ten letters and digits as on the real service."""
        with self._lock:
            jobs = self._jobs[self._existing(subdomain)]
            number = self._jobs_made + 1
            name = f"{number:010X}" if shortcode is None else checked_text("shortcode", shortcode)
            if name in jobs:
                raise WorldError("shortcode", f"'{subdomain}' has a job '{name}' already")
            made = Job(
                id=f"{_FIRST_JOB + self._jobs_made:x}",
                shortcode=name,
                title=checked_text("title", title),
                state=state,
                created_at=self.clock(),
            )
            self._jobs_made = number
            jobs[name] = made
            return made

    def jobs(self, subdomain: str) -> tuple[Job, ...]:
        """Returns the jobs of an account, oldest first; none for an unknown subdomain."""
        with self._lock:
            return tuple(self._jobs.get(subdomain, {}).values())

    def job(self, subdomain: str, shortcode: str) -> Job | None:
        """Returns a job of an account, or None."""
        return self._jobs.get(subdomain, {}).get(shortcode)

    def add_candidate(
        self, subdomain: str, shortcode: str, *, name: str, email: str, recruiter: str | None = None
    ) -> Candidate:
        """Adds a candidate to a job; `recruiter` is the id of the external recruiter who brings it."""
        with self._lock:
            candidates = self._candidates[self._existing(subdomain)]
            if shortcode not in self._jobs[subdomain]:
                raise WorldError("shortcode", f"'{subdomain}' has no job '{shortcode}'")
            if recruiter is not None and recruiter not in self._recruiters[subdomain]:
                raise WorldError("recruiter_key", f"'{subdomain}' has no external recruiter with this id")
            address = checked_email(email)
            if any(each.shortcode == shortcode and each.email == address for each in candidates.values()):
                raise WorldError("email", "this candidate is in the job already")
            made = Candidate(
                id=f"{_FIRST_CANDIDATE + self._candidates_made:x}",
                shortcode=shortcode,
                name=checked_text("name", name),
                email=address,
                created_at=self.clock(),
                recruiter=recruiter,
            )
            self._candidates_made += 1
            candidates[made.id] = made
            return made

    def candidates(self, subdomain: str) -> tuple[Candidate, ...]:
        """Returns the candidates of an account, oldest first; none for an unknown subdomain."""
        with self._lock:
            return tuple(self._candidates.get(subdomain, {}).values())

    # Faults

    def fail(
        self,
        subdomain: str,
        fault: Fault,
        *,
        times: int | None = None,
        path: str | None = None,
        seconds: float | None = None,
    ) -> FaultRule:
        """Lets requests to `subdomain` (`"*"`: to any) end in `fault`, `times` times, or until healed.

        `path` narrows it to requests whose path after `/spi/v3` contains it, such as `"recruiters"`.
        `seconds` is for the faults in `faults.TIMED`. Faults strike in the order in which they were added.
        """
        if subdomain != EVERYWHERE and not subdomain.strip():
            raise WorldError("subdomain", f"must not be empty; '{EVERYWHERE}' means every one")
        with self._lock:
            return self._faults.add(fault=fault, subdomain=subdomain, path=path, times=times, seconds=seconds)

    def heal(self, subdomain: str | None = None, fault: Fault | None = None, *, number: int | None = None) -> int:
        """Takes back the faults that match everything given (all, when nothing is), and returns how many.

        `"*"` matches the faults that were set for every subdomain, None matches any.
        """
        with self._lock:
            return self._faults.remove(subdomain=subdomain, fault=fault, number=number)

    @property
    def faults(self) -> tuple[FaultRule, ...]:
        """The faults in force, oldest first."""
        with self._lock:
            return self._faults.rules

    def take_fault(self, subdomain: str, path: str) -> FaultRule | None:
        """Returns the fault that strikes a request, counted down, or None; meant for the app that answers."""
        if not self._faults:
            return None
        with self._lock:
            return self._faults.take(subdomain, path)

    # The rate limit

    @property
    def limit(self) -> Limit:
        """The limit in force."""
        return self._rates.limit

    def set_limit(self, limit: Limit) -> None:
        """Changes the limit, and lets every token start afresh; `Limit.off()` is none at all."""
        with self._lock:
            self._rates = RateCounter(limit)

    def spend(self, token: Token, *, partner: bool) -> Allowance | None:
        """Counts one request of a token; None when no limit applies. Meant for the app that answers."""
        with self._lock:
            return self._rates.spend(token.secret, partner=partner, now=self.clock())

    # The log

    @property
    def log(self) -> tuple[LogEntry, ...]:
        """The requests that are remembered, oldest first."""
        with self._lock:
            return tuple(self._log)

    @property
    def last_logged(self) -> int:
        """The number of the latest request, 0 before the first."""
        return self._last_logged

    def requests(self, *, subdomain: str | None = None, path: str | None = None) -> tuple[LogEntry, ...]:
        """Returns the remembered requests to a subdomain, and to paths with `path` in them; None is any."""
        return tuple(
            entry
            for entry in self.log
            if (subdomain is None or entry.subdomain == subdomain) and (path is None or path in entry.path)
        )

    def record(
        self,
        *,
        at: float,
        started: float,
        method: str,
        subdomain: str,
        path: str,
        query: str,
        status: int,
        fingerprint: str | None,
        user_agent: str,
        fault: Fault | None,
    ) -> LogEntry:
        """Writes a request down as ended now, its texts cut to size; meant for the app that answers."""
        with self._lock:
            self._last_logged += 1
            entry = LogEntry(
                number=self._last_logged,
                at=at,
                method=method,
                subdomain=subdomain[:LONGEST_TEXT_CHARACTERS],
                path=path[:LONGEST_TEXT_CHARACTERS],
                query=query[:LONGEST_TEXT_CHARACTERS],
                status=status,
                started=started,
                ended=time.monotonic(),
                fingerprint=fingerprint,
                user_agent=user_agent[:LONGEST_TEXT_CHARACTERS],
                fault=None if fault is None else fault.value,
            )
            self._log.append(entry)
            return entry

    def forget_requests(self) -> None:
        """Empties the log; the numbers of requests go on."""
        with self._lock:
            self._log.clear()
