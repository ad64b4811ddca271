"""What stands between a hostile page and the dialog: headers, whose request it is, and how much of it is read.

There are no cookies, so nobody's browser brings a proof along by itself: a POST has to carry the link's secret, and to
come from a page of ours.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

#: No form of ours is longer.
MOST_BODY_BYTES = 16 * 1024
MOST_FIELDS = 20


class NotOurs(Exception):
    """A request that no page of ours sends; `status` is the answer's."""

    def __init__(self, status: int) -> None:
        """Name the status."""
        super().__init__(status)
        self.status = status


def headers(embed_origin: str | None) -> dict[str, str]:
    """The headers of every page. `embed_origin`: the one origin that may show it in a frame."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": embed_origin or "'none'",
    }
    told = {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "cache-control": "no-store",
        "x-robots-tag": "noindex, nofollow",
    }
    return told if embed_origin else told | {"x-frame-options": "DENY"}


def refuse_strangers(request: Request, public_url: str | None) -> None:
    """Make sure that a POST, or a call of our script, comes from a page of ours. Raises NotOurs.

    Browsers say so by `Sec-Fetch-Site`. Older ones do not: there `Origin` is ours, null (a form in a frame of an
    opaque origin) or absent. `public_url`: where a proxy says that we are, if it changes the name of the host.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise NotOurs(403)
        return
    origin = request.headers.get("origin")
    ours = (request.headers.get("host"), urlsplit(public_url).netloc if public_url else None)
    if origin not in (None, "null") and urlsplit(str(origin)).netloc not in ours:
        raise NotOurs(403)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Raises NotOurs: it is too long, or not a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise NotOurs(415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY_BYTES:
            raise NotOurs(413)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError:
        status = 400
    raise NotOurs(status)
