"""The control page and its JSON API, asked of the app in-process."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from linker.sandbox import Fault, Limit, Sandbox, World, seed
from linker.sandbox.faults import SUMMARIES

PAGE = "http://127.0.0.1:8787/_sandbox"


@pytest.fixture
def world() -> World:
    """The demonstration's world."""
    return seed.seeded()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the control API."""
    transport = httpx.ASGITransport(app=Sandbox(world))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8787/_sandbox") as made:
        yield made


async def post(client: httpx.AsyncClient, verb: str, **values: object) -> dict[str, Any]:
    """Posts a change that has to succeed, and returns the answer."""
    answer = await client.post(f"/api/{verb}", json=values)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_world_shows_everything_but_the_tokens(client: httpx.AsyncClient, world: World) -> None:
    """The whole world is one JSON object; a token is its fingerprint, but for the demonstration's own."""
    world.add_token("acme", "private-token")
    answer = await client.get("/api/world")
    acme = answer.json()["accounts"][0]
    assert "private-token" not in answer.text
    assert acme["id"] == "c71fa"
    assert [each["name"] for each in acme["recruiters"]] == ["Hunters & Co"]
    assert {token.get("demo_token") for token in acme["tokens"]} == {
        seed.ACME_TOKEN,
        seed.ACME_TOKEN_WITHOUT_SCOPE,
        seed.ACME_TOKEN_REVOKED,
        None,
    }


async def test_every_fault_is_explained(client: httpx.AsyncClient) -> None:
    """Each fault has a line for people, and the page is told all of them."""
    assert set(SUMMARIES) == set(Fault)
    kinds = (await client.get("/api/world")).json()["fault_kinds"]
    assert [kind["fault"] for kind in kinds] == [fault.value for fault in Fault]


async def test_names_of_faults_are_forever() -> None:
    """Scripts name faults by these texts."""
    assert " ".join(sorted(Fault)) == (
        "bad_gateway broken_json cut empty forbidden foreign_next html huge mismatch missing_keys not_found "
        "not_found_page redirect server_error slow spurious_404 throttled throttled_bare throttled_retry_after "
        "trickle unauthorized unauthorized_documented unavailable wrong_shape"
    )


async def test_accounts_can_be_renamed_and_closed_over_the_api(client: httpx.AsyncClient, world: World) -> None:
    """The token of a renamed account reaches it under its new name; that of a closed one reaches none."""
    await post(client, "account", subdomain="hooli", name="Hooli")
    token = (await post(client, "token", subdomain="hooli"))["token"]
    await post(client, "recruiter", subdomain="hooli", name="R", email="r@h.example")
    before = world.account("hooli")
    assert before is not None
    renamed = await post(client, "account/rename", subdomain="hooli", new="hooli-group")
    assert (renamed["subdomain"], renamed["id"], len(renamed["recruiters"])) == ("hooli-group", before.id, 1)
    held = world.token(token)
    assert held is not None
    assert held.subdomain == "hooli-group"
    assert await post(client, "account/close", subdomain="hooli-group") == {"closed": "hooli-group"}
    assert world.account("hooli-group") is None


async def test_world_can_be_built_over_the_api(client: httpx.AsyncClient, world: World) -> None:
    """Account, token, scopes, recruiter and member can be added and taken back with JSON."""
    await post(client, "account", subdomain="hooli", name="Hooli")
    token = await post(client, "token", subdomain="hooli")
    await post(client, "scopes", fingerprint=token["fingerprint"], scopes=["r_jobs", "r_account"])
    recruiter = await post(client, "recruiter", subdomain="hooli", name="R", email="r@h.example", shortcodes=["J"])
    await post(client, "member", subdomain="hooli", name="M", email="m@h.example", active=False)
    made = world.token(token["token"])
    assert made is not None
    assert made.scopes == {"r_jobs", "r_account"}
    assert world.recruiters("hooli")[0].shortcodes == {"J"}
    assert world.members("hooli")[0].active is False
    await post(client, "recruiter/remove", subdomain="hooli", recruiter=recruiter["id"])
    assert (await post(client, "revoke", fingerprint=token["fingerprint"]))["revoked"] is True
    assert world.recruiters("hooli") == ()


async def test_chosen_token_is_not_repeated(client: httpx.AsyncClient) -> None:
    """A token that somebody chose does not come back in the answer."""
    answer = await client.post("/api/token", json={"subdomain": "acme", "token": "chosen-one", "scopes": []})
    assert answer.status_code == 200
    assert "chosen-one" not in answer.text


async def test_faults_are_set_and_healed_over_the_api(client: httpx.AsyncClient, world: World) -> None:
    """A fault takes its place, count, path and time, and can be healed by any of them."""
    rule = await post(client, "fault", subdomain="acme", fault="slow", times=3, path="recruiters", seconds=0.5)
    assert (rule["remaining"], rule["path"], rule["seconds"]) == (3, "recruiters", 0.5)
    await post(client, "fault", subdomain="*", fault="html")
    assert [each.fault for each in world.faults] == [Fault.SLOW, Fault.HTML]
    assert await post(client, "heal", number=rule["number"]) == {"healed": 1}
    assert await post(client, "heal", subdomain="*", fault="html") == {"healed": 1}


async def test_limit_is_set_side_by_side(client: httpx.AsyncClient, world: World) -> None:
    """Null switches a side off, and what is left out stays."""
    await post(client, "limit", requests=3)
    assert world.limit == Limit(requests=3, partner=50)
    await post(client, "limit", requests=None, partner=None)
    assert world.limit == Limit.off()


async def test_reset_puts_everything_back(client: httpx.AsyncClient, world: World) -> None:
    """After a reset the demonstration's world is there again, and nothing else."""
    before = (await client.get("/api/world")).json()["accounts"]
    world.add_account("hooli", name="Hooli")
    world.revoke_token(seed.ACME_TOKEN)
    world.fail("*", Fault.HTML)
    assert (await post(client, "reset"))["accounts"] == before
    assert world.faults == ()


async def test_log_is_read_from_where_one_left_off(client: httpx.AsyncClient) -> None:
    """`after` gives the newer requests, `limit` the latest of them."""
    for _ in range(3):
        await client.get("http://127.0.0.1:8787/acme/spi/v3/recruiters")
    newer = (await client.get("/api/log", params={"after": 1})).json()
    assert ([entry["number"] for entry in newer["entries"]], newer["last"]) == ([2, 3], 3)
    latest = (await client.get("/api/log", params={"limit": 1})).json()
    assert [entry["number"] for entry in latest["entries"]] == [3]


@pytest.mark.parametrize(
    ("name", "values", "field"),
    [
        ("account", {"name": "A"}, "subdomain"),
        ("account", {"subdomain": 7, "name": "A"}, "subdomain"),
        ("account", {"subdomain": "acme", "name": "A"}, "subdomain"),
        ("account", {"subdomain": "new", "name": "A", "nmae": "B"}, "nmae"),
        ("account/rename", {"subdomain": "acme", "new": "acme"}, "new"),
        ("account/rename", {"subdomain": "nobody", "new": "other"}, "subdomain"),
        ("account/close", {"subdomain": "nobody"}, "subdomain"),
        ("token", {"subdomain": "acme", "scopes": "r_jobs"}, "scopes"),
        ("token", {"subdomain": "acme", "scopes": ["r_members"]}, "scopes"),
        ("revoke", {"fingerprint": "nope"}, "fingerprint"),
        ("recruiter", {"subdomain": "acme", "name": "A", "email": "x"}, "email"),
        ("recruiter/remove", {"subdomain": "acme", "recruiter": "x"}, "recruiter"),
        ("member", {"subdomain": "acme", "name": "A", "email": "a@b.c", "active": "yes"}, "active"),
        ("recruiter", {"subdomain": "acme", "name": "A", "email": "a@b.c", "shortcodes": [1]}, "shortcodes"),
        ("fault", {"subdomain": "acme"}, "fault"),
        ("fault", {"subdomain": "acme", "fault": "nope"}, "fault"),
        ("fault", {"subdomain": "acme", "fault": "html", "times": 1.5}, "times"),
        ("fault", {"subdomain": "acme", "fault": "html", "times": True}, "times"),
        ("fault", {"subdomain": "acme", "fault": "slow", "seconds": "1"}, "seconds"),
        ("limit", {"requests": 0}, "requests"),
        ("reset", {"everything": True}, "everything"),
    ],
)
async def test_bad_field_is_named(client: httpx.AsyncClient, name: str, values: object, field: str) -> None:
    """A change that makes no sense ends in 400, naming the field in words for a person."""
    answer = await client.post(f"/api/{name}", json=values)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
async def test_body_has_to_be_a_json_object(client: httpx.AsyncClient, body: bytes) -> None:
    """Anything but a JSON object ends in 400 about the body."""
    answer = await client.post("/api/heal", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "body")


async def test_bad_numbers_in_the_query_are_named(client: httpx.AsyncClient) -> None:
    """The log's parameters are checked too."""
    answer = await client.get("/api/log", params={"after": "-1"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "after")


async def test_forms_of_other_sites_are_refused(client: httpx.AsyncClient, world: World) -> None:
    """A plain form, which any web site could send, changes nothing."""
    answer = await client.post("/api/reset", data={"a": "b"})
    assert answer.status_code == 415
    plain = await client.post(
        "/api/account", content=b'{"subdomain":"x","name":"X"}', headers={"Content-Type": "text/plain"}
    )
    assert plain.status_code == 415
    assert world.account("x") is None


async def test_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """The page and what it loads come from the sandbox alone, and are told to the browser so."""
    page = await client.get(PAGE)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert sorted(loaded) == ["/_sandbox/page.css", "/_sandbox/page.js", "data:,"]
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        part = await client.get(f"/{name}")
        assert (part.status_code, part.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert "://" not in part.text.replace("${location.origin}", "")


async def test_script_puts_text_in_as_text(client: httpx.AsyncClient) -> None:
    """Nothing in the page's script turns data into markup."""
    script = (await client.get("/page.js")).text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


async def test_every_field_of_the_page_has_a_label(client: httpx.AsyncClient) -> None:
    """Each input and select stands inside its label."""
    page = (await client.get(PAGE)).text
    inside = "".join(re.findall(r"<label.*?</label>", page, flags=re.DOTALL))
    fields = r"<(?:input|select)\b"
    assert len(re.findall(fields, page)) == len(re.findall(fields, inside)) > 10


async def test_root_leads_to_the_page(client: httpx.AsyncClient) -> None:
    """Who opens the bare address finds the page."""
    answer = await client.get("http://127.0.0.1:8787/")
    assert answer.headers["location"] == "/_sandbox"


async def test_jobs_and_candidates_are_added(client: httpx.AsyncClient, world: World) -> None:
    """By the control API, and shown with the world."""
    job = await post(client, "job", subdomain="acme", title="Robot Poet", state="draft")
    assert job.keys() == {"id", "shortcode", "title", "state"}
    await post(client, "recruiter", subdomain="acme", name="Integration", email="ats@example.com")
    recruiter = world.recruiters("acme")[-1].id
    given = {"name": "Ann Example", "email": "ann@example.com", "recruiter": recruiter}
    made = await post(client, "candidate", subdomain="acme", shortcode=job["shortcode"], **given)
    assert (made["name"], made["recruiter"]) == ("Ann Example", recruiter)
    acme = (await client.get("/api/world")).json()["accounts"][0]
    assert [each["title"] for each in acme["jobs"]][-1] == "Robot Poet"
    assert [each["email"] for each in acme["candidates"]] == ["ann@example.com"]
    for verb, values in (
        ("job", {"subdomain": "acme", "title": "Robot Poet", "shortcode": job["shortcode"]}),
        ("job", {"subdomain": "nobody", "title": "Robot Poet"}),
        ("candidate", {"subdomain": "acme", "shortcode": "NONE", **given}),
    ):
        assert (await client.post(f"/api/{verb}", json=values)).status_code == 400
