"""Facts about Workable's API, version SPI v3, as data: where things are, what they need, how much is allowed.

How sure each one is: *recorded* from the real service, *documented* by Workable, *seen* by integrators, or
*not established* (then the careful side is taken).
"""

from __future__ import annotations

#: Where an account is (recorded).
URL_TEMPLATE = "https://{subdomain}.workable.com"
#: Stands in the place of the subdomain for calls that belong to no account (recorded).
NO_ACCOUNT = "www"

#: One account: a flat object with `id`, `name`, `subdomain` (recorded).
ACCOUNT_PATH = "/spi/v3/accounts/{subdomain}"
#: The external recruiters: `{"recruiters": [{"id", "name", "email"}]}` (documented; only the empty list is recorded).
#: No paging and no filter by e-mail are documented; `paging.next` is followed if it comes (seen by one integrator).
RECRUITERS_PATH = "/spi/v3/recruiters"
#: The accounts that a token reaches: `{"accounts": [...]}`, asked without an account (recorded).
ACCOUNTS_PATH = "/spi/v3/accounts"
#: The members: `{"members": [...], "paging": {"next": URL}}`; no `paging` on the last page (recorded). `email` is an
#: exact filter (documented, second-hand).
MEMBERS_PATH = "/spi/v3/members?status=all&limit=100"

#: The permission that all four calls need (documented).
SCOPE = "r_jobs"
#: The cheapest call by which each other permission to read can be tried. There is no other way to learn what a token
#: may do, and permissions to write cannot be tried safely. That `/timeoff/categories` needs `r_timeoff` is documented
#: ("timeoffcategories" in Workable's reference), that `/employees` needs `r_employees` second-hand, the others are
#: documented; none of the answers is recorded. Two have no call that could be believed: an offer is read by its id, and
#: with a user's token alone (documented); requisitions belong to the Hiring Plan (documented, second-hand), and what an
#: account without it answers is not established. Those two stay unverified.
TRIED_BY = {
    "r_candidates": ("GET /candidates", "/spi/v3/candidates?limit=1"),
    "r_account": ("GET /departments", "/spi/v3/departments"),
    "r_employees": ("GET /employees", "/spi/v3/employees?limit=1"),
    "r_timeoff": ("GET /timeoff/categories", "/spi/v3/timeoff/categories"),
}

#: The permissions to read and to write what a path is about, by the last of these words in it (documented).
SCOPES: dict[str, tuple[str, str | None]] = {
    "accounts": (SCOPE, None),
    "recruiters": (SCOPE, None),
    "stages": (SCOPE, None),
    "jobs": (SCOPE, None),
    "members": (SCOPE, "w_members"),
    "candidates": ("r_candidates", "w_candidates"),
    "comments": ("r_candidates", "w_comments"),
    "employees": ("r_employees", "w_employees"),
    "departments": ("r_account", "w_departments"),
    "offer": ("r_candidates", "w_offers"),  # the latest one of a candidate (documented, second-hand)
    "offers": ("r_offers", "w_offers"),
    "requisitions": ("r_requisitions", "w_requisitions"),
    "timeoff": ("r_timeoff", "w_timeoff"),
}


def scope_of(method: str, path: str) -> str | None:
    """The permission that a call needs, as far as it is documented. `path` is behind `/spi/v3/`, without a query."""
    for word in reversed(path.split("/")):
        if word in SCOPES:
            to_read, to_write = SCOPES[word]
            return to_read if method in {"GET", "HEAD"} else to_write
    return None


#: How the calls are named in the evidence that the law's table has no name for.
ACCOUNTS = "GET /accounts"
MEMBERS = "GET /members"

#: We say who we are, always in the same words: answers vary with the User-Agent (recorded).
USER_AGENT = "workable-linker"
#: Partners send their id with this header and get the larger limit (documented).
CLIENT_ID_HEADER = "X-WORKABLE-CLIENT-ID"

#: Requests in a window for an account token, and with a partner's client id (documented).
ACCOUNT_LIMIT = 10
PARTNER_LIMIT = 50
#: What we take of every 10 calls that an account allows, at most; the customer's own tools share the rest. Looks are in
#: the background, and fewer while a host calls; a person waits for a verification, which needs 2 to 4 calls.
SHARED_OF_TEN = 6
LOOKS_OF_TEN = 4
LOOKS_BESIDE_A_HOST_OF_TEN = 2
HOSTS_OF_TEN = 4
VERIFICATIONS_OF_TEN = 8
#: The length of the window (documented; that it is aligned to the clock is seen).
WINDOW_SECONDS = 10.0
#: What is left of the window, and when it ends in Unix seconds. Only good answers carry them (recorded).
LIMIT_HEADER = b"x-rate-limit-limit"
REMAINING_HEADER = b"x-rate-limit-remaining"
RESET_HEADER = b"x-rate-limit-reset"

#: Our own limits. No answer that we need is longer than this, unpacked.
MAX_ANSWER_BYTES = 512 * 1024
#: Nor has one as many values. To read one is to make an object of each: that takes longer than to read its bytes.
MOST_ANSWER_VALUES = 20_000
#: An answer from this length on is read while no other one is.
LARGE_ANSWER_BYTES = 16 * 1024
#: A list that goes on for longer has no end.
MOST_FURTHER_PAGES = 9
