"""Times as people say them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def span(length: timedelta) -> str:
    """A length of time in the one or two units that matter: `9 s`, `3 min`, `1 h 20 min`, `14 d`."""
    seconds = round(abs(length.total_seconds()))
    if seconds < MINUTE:
        return f"{seconds} s"
    minutes = round(seconds / MINUTE)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 10 * 60:
        return f"{minutes // 60} h {minutes % 60} min".removesuffix(" 0 min")
    hours = round(seconds / HOUR)
    return f"{hours} h" if hours < 48 else f"{round(seconds / DAY)} d"


def relative(at: datetime, now: datetime) -> str:
    """How far a time is from now: `in 9 min`, `3 h ago`, `now`."""
    away = at - now
    if abs(away) < timedelta(seconds=0.5):
        return "now"
    return f"in {span(away)}" if away > timedelta(0) else f"{span(away)} ago"


def clock(at: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def both(at: datetime, now: datetime) -> str:
    """How far a time is from now, and the time itself."""
    return f"{relative(at, now)} ({clock(at)})"


def expiry(on: date, now: datetime) -> str:
    """When a token expires: it works on its last day still."""
    days = (on - now.astimezone(UTC).date()).days
    if days < 0:
        return f"expired on {on}"
    return f"expires today ({on})" if days == 0 else f"expires on {on}, in {days} d"


def age(length: timedelta) -> str:
    """A length of time as people say it in a sentence: `12 min`, `1 day`, `3 days`."""
    told = span(length)
    return f"{told.removesuffix(' d')} days" if told.endswith(" d") else told
