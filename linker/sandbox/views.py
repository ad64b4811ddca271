"""The world as JSON for the control page: everything but the tokens themselves."""

from __future__ import annotations

from linker.sandbox.faults import DEFAULT_SECONDS, SUMMARIES, TIMED, FaultRule
from linker.sandbox.journal import LogEntry
from linker.sandbox.limits import WINDOW_SECONDS
from linker.sandbox.records import SCOPES, Account, Member, Recruiter, Token
from linker.sandbox.seed import DEMO_TOKENS
from linker.sandbox.world import World

View = dict[str, object]


def world_view(world: World) -> View:
    """Returns the whole world but the log."""
    return {
        "now": world.clock(),
        "limit": limit_view(world),
        "accounts": [account_view(world, each) for each in world.accounts],
        "faults": [fault_view(each) for each in world.faults],
        "fault_kinds": [
            {
                "fault": fault.value,
                "summary": summary,
                "timed": fault in TIMED,
                "seconds": DEFAULT_SECONDS.get(fault),
            }
            for fault, summary in SUMMARIES.items()
        ],
        "scopes": sorted(SCOPES),
    }


def limit_view(world: World) -> View:
    """Returns the limit in force, null for a side that is switched off."""
    limit = world.limit
    return {"requests": limit.requests, "partner": limit.partner, "window_seconds": WINDOW_SECONDS}


def account_view(world: World, account: Account) -> View:
    """Returns an account with all that belongs to it."""
    return {
        "subdomain": account.subdomain,
        "id": account.id,
        "name": account.name,
        "website_url": account.website_url,
        "tokens": [token_view(each) for each in world.tokens if each.subdomain == account.subdomain],
        "recruiters": [recruiter_view(each) for each in world.recruiters(account.subdomain)],
        "members": [member_view(each) for each in world.members(account.subdomain)],
    }


def token_view(token: Token) -> View:
    """Returns a token by its fingerprint; the demonstration's own tokens, which are no secret, are shown."""
    view: View = {
        "fingerprint": token.fingerprint,
        "subdomain": token.subdomain,
        "scopes": sorted(token.scopes),
        "revoked": token.revoked,
    }
    if token.secret in DEMO_TOKENS:
        view |= {"demo_token": token.secret, "note": DEMO_TOKENS[token.secret]}
    return view


def recruiter_view(recruiter: Recruiter) -> View:
    """Returns a recruiter."""
    return {
        "id": recruiter.id,
        "name": recruiter.name,
        "email": recruiter.email,
        "shortcodes": sorted(recruiter.shortcodes),
    }


def member_view(member: Member) -> View:
    """Returns a member."""
    return {
        "id": member.id,
        "name": member.name,
        "email": member.email,
        "role": member.role,
        "active": member.active,
    }


def fault_view(rule: FaultRule) -> View:
    """Returns a fault in force; `remaining` null means until healed."""
    return {
        "number": rule.number,
        "fault": rule.fault.value,
        "summary": SUMMARIES[rule.fault],
        "subdomain": rule.subdomain,
        "path": rule.path,
        "seconds": rule.seconds,
        "remaining": rule.remaining,
        "struck": rule.struck,
    }


def entry_view(entry: LogEntry) -> View:
    """Returns a request of the log."""
    return {
        "number": entry.number,
        "at": entry.at,
        "method": entry.method,
        "subdomain": entry.subdomain,
        "path": entry.path,
        "query": entry.query,
        "status": entry.status,
        "started": entry.started,
        "ended": entry.ended,
        "milliseconds": round(entry.milliseconds, 3),
        "fingerprint": entry.fingerprint,
        "user_agent": entry.user_agent,
        "fault": entry.fault,
    }
