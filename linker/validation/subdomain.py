"""The subdomain as people paste it, and the strict label that it has to become.

The label becomes part of the host that is sent a secret, so everything that is not plainly a label is refused. No
error shows what was given: people paste tokens into the wrong field.
"""

from __future__ import annotations

import re
import unicodedata

from linker.errors import BadInput

#: The suffix of every account's host (recorded from the real service).
HOST_SUFFIX = ".workable.com"
#: Names under workable.com that are Workable's own and no customer's: `www` recorded, the others seen or likely.
RESERVED = frozenset({"www", "api", "app", "apply", "help", "id", "jobs", "resources", "status"})
#: The host of all careers sites: Workable's own pages show the subdomain as the first part of the path there
#: (documented), so people copy that address.
CAREERS_HOST = "apply.workable.com"
#: First parts of that path that name no account: the API behind the pages, short links to jobs, and files (seen).
CAREERS_RESERVED = frozenset({"api", "j", "static", "assets", "robots.txt", "sitemap.xml"})
#: A host name's label. Workable's own grammar is not published; a stricter one keeps secrets from going elsewhere.
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
MAX_LABEL_CHARACTERS = 63
#: Nobody's address bar holds more.
MAX_GIVEN_CHARACTERS = 2048

NOT_WORKABLE = "not_workable"
#: What no host of an account holds, and why it is refused.
FORBIDDEN = {"@": "holds_at", "\\": "holds_backslash", "%": "holds_percent", ":": "holds_colon"}
SCHEME = re.compile(r"([^/?#]*?)://(.*)", re.ASCII)
#: Long, without a hyphen, letters mixed with digits: nobody names a company so, and tokens look so.
TOKEN_LIKE = re.compile(
    r"(?=(?:[a-z]*[0-9]){4})(?=[0-9]*[a-z])[a-z0-9]{20,}"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",  # a UUID
    re.ASCII,
)
#: What stands around an address in a mail or in code.
AROUND = "\"'`´“”„‟‘’‚‛«»‹›<> \t\r\n\xa0"
#: An address of an account whose name is too short to be a token, and what may be one, among other words.
PLAIN_ADDRESS = re.compile(r"\b[a-z0-9-]{1,19}\.workable\.com\b", re.ASCII | re.IGNORECASE)
SECRET_LIKE = re.compile(r"[a-z0-9_.+=~-]{20,}", re.ASCII | re.IGNORECASE)


def has_secret(text: str) -> bool:
    """True if something in a text that was typed as a subdomain may be a token, so that it must not be shown again."""
    return SECRET_LIKE.search(PLAIN_ADDRESS.sub("", _seen(text))) is not None


def _seen(text: str) -> str:
    """A text without the characters that nobody can see, as zero-width spaces."""
    return "".join(each for each in text if unicodedata.category(each) != "Cf")


def is_label(text: str) -> bool:
    """True if the text is a strict lower-case host label of at most 63 characters."""
    return LABEL.fullmatch(text) is not None


def parse_subdomain(text: object) -> str:
    """The account's subdomain, from what a person pasted: `acme`, ` ACME `, a host, or a URL of the account.

    The address of the account's careers site counts as one: `apply.workable.com/acme`. Dropped are blanks and quotes
    around it, and characters that nobody can see.

    Raises:
        BadInput: it is anything else, on the field `subdomain`. The text of the error never shows what was given.
    """
    label, reason = _parse(_seen(text).strip().strip(AROUND).strip()) if isinstance(text, str) else ("", "not_text")
    del text
    if reason:
        raise BadInput("subdomain", reason, **({"most": MAX_LABEL_CHARACTERS} if reason == "too_long" else {}))
    return label


def _parse(given: str) -> tuple[str, str | None]:
    """The label, and what is wrong; with something wrong the label is empty, so that no frame holds it."""
    if not given:
        return "", "empty"
    if len(given) > MAX_GIVEN_CHARACTERS:
        return "", "too_long"
    if not given.isascii():
        return "", "foreign_letters"
    if not given.isprintable() or " " in given:
        return "", "blanks"
    given = given.lower()  # only now: some foreign letters become plain ones when lowered
    scheme = SCHEME.fullmatch(given)
    if scheme is not None and scheme[1] not in ("http", "https"):
        return "", "other_scheme"
    address = scheme[2] if scheme else given
    host = re.split("[/?#]", address, maxsplit=1)[0]
    label = host.removesuffix(HOST_SUFFIX)
    reason = next((reason for character, reason in FORBIDDEN.items() if character in host), None)
    if host == CAREERS_HOST:
        path = address.removeprefix(host)
        label = re.split("[/?#]", path[1:], maxsplit=1)[0] if path.startswith("/") else ""
        reason = "reserved" if not label or label in CAREERS_RESERVED else _unusable_label(label)
    elif reason is None:
        reason = NOT_WORKABLE if label == host != given else _unusable_label(label)
    return ("", reason) if reason else (label, None)


def _unusable_label(label: str) -> str | None:
    if "." in label:
        return NOT_WORKABLE
    if len(label) > MAX_LABEL_CHARACTERS or TOKEN_LIKE.fullmatch(label):
        return "looks_like_token"
    if not is_label(label):
        return "not_a_label"
    if label.startswith("xn--"):
        return "punycode"
    if label in RESERVED:
        return "reserved"
    return None
