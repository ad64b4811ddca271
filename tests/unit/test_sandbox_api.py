"""Workable's answers, asked of the app in-process."""

from collections.abc import AsyncIterator

import httpx
import pytest

from linker.sandbox import Fault, JobState, Limit, Sandbox, World, fingerprint

NESTED_401 = {
    "error": {
        "error": {
            "error": {"name": "invalid_token", "state": "unauthorized"},
            "reason": "unknown",
            "description": "The access token is invalid",
        }
    }
}


@pytest.fixture
def world() -> World:
    """Two accounts with a token each, at second 1,000,003.5."""
    made = World(clock=lambda: 1_000_003.5)
    made.add_account("acme", name="Acme Robotics", website_url="https://acme.example")
    made.add_account("globex", name="Globex")
    made.add_token("acme", "acme-token", scopes={"r_jobs"})
    made.add_token("globex", "globex-token", scopes={"r_jobs"})
    return made


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client with Acme's token that talks to the app without a network."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=Sandbox(world)),
        base_url="http://127.0.0.1:8787",
        headers={"Authorization": "Bearer acme-token", "User-Agent": "test/1"},
    ) as made:
        yield made


async def test_account_is_flat_and_tells_the_limit(client: httpx.AsyncClient) -> None:
    """The account has the recorded keys and headers."""
    answer = await client.get("/acme/spi/v3/accounts/acme")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "c71fa",
        "name": "Acme Robotics",
        "subdomain": "acme",
        "description": None,
        "summary": None,
        "website_url": "https://acme.example",
    }
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["vary"] == "User-Agent"
    assert answer.headers["x-rate-limit-limit"] == "10"
    assert answer.headers["x-rate-limit-remaining"] == "9"
    assert answer.headers["x-rate-limit-reset"] == "1000010"


@pytest.mark.parametrize("subdomain", ["www", "acme", "globex"])
async def test_accounts_are_listed_on_any_subdomain(client: httpx.AsyncClient, subdomain: str) -> None:
    """Which accounts a token reaches may be asked on `www` and everywhere else."""
    answer = await client.get(f"/{subdomain}/spi/v3/accounts")
    assert [account["subdomain"] for account in answer.json()["accounts"]] == ["acme"]


async def test_recruiters_are_listed_as_typed(client: httpx.AsyncClient, world: World) -> None:
    """Recruiters have id, name and e-mail; a job's shortcode narrows the list; none is an empty list."""
    assert (await client.get("/acme/spi/v3/recruiters")).json() == {"recruiters": []}
    world.add_recruiter("acme", name="Ann", email="ATS+X@Inbound.Example")
    world.add_recruiter("acme", name="Bö", email="b@b.example", shortcodes={"JOB1"})
    listed = (await client.get("/acme/spi/v3/recruiters")).json()["recruiters"]
    assert listed == [
        {"id": "2b81c0", "name": "Ann", "email": "ATS+X@Inbound.Example"},
        {"id": "2b81c1", "name": "Bö", "email": "b@b.example"},
    ]
    narrowed = await client.get("/acme/spi/v3/recruiters", params={"shortcode": "JOB1"})
    assert [each["name"] for each in narrowed.json()["recruiters"]] == ["Bö"]


async def test_members_come_in_pages(client: httpx.AsyncClient, world: World) -> None:
    """`paging.next` is a full URL that leads to the rest, and is absent on the last page."""
    for number in range(5):
        world.add_member("acme", name=f"M{number}", email=f"m{number}@acme.example")
    url: str | None = "/acme/spi/v3/members?status=all&limit=2"
    pages: list[list[str]] = []
    while url:
        body = (await client.get(url)).json()
        pages.append([member["name"] for member in body["members"]])
        assert ("paging" in body) is (len(pages) < 3)
        url = body.get("paging", {}).get("next")
        assert url is None or url.startswith("http://127.0.0.1:8787/acme/spi/v3/members?")
    assert pages == [["M0", "M1"], ["M2", "M3"], ["M4"]]


async def test_since_id_is_inclusive(client: httpx.AsyncClient, world: World) -> None:
    """The member that `since_id` names is the first of the page."""
    for number in range(3):
        world.add_member("acme", name=f"M{number}", email=f"m{number}@acme.example")
    second = world.members("acme")[1]
    body = (await client.get("/acme/spi/v3/members", params={"since_id": second.id})).json()
    assert [member["name"] for member in body["members"]] == ["M1", "M2"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=all", ["On", "Off"]),
        ("status=inactive", ["Off"]),
        ("", ["On"]),
        ("status=all&limit=x&since_id=zz", ["On", "Off"]),
        ("status=all&limit=-1", ["On"]),
    ],
)
async def test_members_are_chosen_by_status(
    client: httpx.AsyncClient, world: World, query: str, names: list[str]
) -> None:
    """Inactive members show only when asked for, and nonsense numbers are taken for the nearest sense."""
    world.add_member("acme", name="On", email="on@acme.example", role="admin")
    world.add_member("acme", name="Off", email="off@acme.example", active=False)
    body = (await client.get(f"/acme/spi/v3/members?{query}")).json()
    assert [member["name"] for member in body["members"]] == names


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/accounts/acme", "r_jobs"),
        ("/accounts", "r_jobs"),
        ("/recruiters", "r_jobs"),
        ("/members", "r_jobs"),
        ("/candidates?limit=1", "r_candidates"),
        ("/departments", "r_account"),
        ("/employees", "r_employees"),
        ("/timeoff/categories", "r_timeoff"),
    ],
)
async def test_each_call_needs_its_scope(client: httpx.AsyncClient, world: World, path: str, scope: str) -> None:
    """With the scope a call is answered, with every other scope and not this one it is forbidden."""
    world.set_scopes("acme-token", {scope})
    assert (await client.get(f"/acme/spi/v3{path}")).status_code == 200
    world.set_scopes("acme-token", {"r_jobs", "r_candidates", "r_account"} - {scope})
    refused = await client.get(f"/acme/spi/v3{path}")
    assert (refused.status_code, refused.json()) == (403, {"error": "Forbidden"})
    assert not [name for name in refused.headers if name.startswith("x-rate")]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic acme-token", "acme-token", "Bearer ä"])
@pytest.mark.parametrize("subdomain", ["acme", "nobody", "www"])
async def test_bad_token_is_refused_alike_everywhere(world: World, header: str | None, subdomain: str) -> None:
    """No token or a wrong one gives the nested 401, on real and on invented subdomains."""
    headers = httpx.Headers({} if header is None else {"Authorization": header}, encoding="latin-1")
    transport = httpx.ASGITransport(app=Sandbox(world))
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test") as client:
        answer = await client.get(f"/{subdomain}/spi/v3/recruiters", headers=headers)
    assert (answer.status_code, answer.json()) == (401, NESTED_401)
    assert not [name for name in answer.headers if name.startswith("x-rate")]


async def test_revoked_token_is_refused_like_a_wrong_one(client: httpx.AsyncClient, world: World) -> None:
    """Nothing tells a revoked token from a wrong one."""
    world.revoke_token("acme-token")
    answer = await client.get("/acme/spi/v3/recruiters")
    assert (answer.status_code, answer.json()) == (401, NESTED_401)


@pytest.mark.parametrize("path", ["/globex/spi/v3/recruiters", "/nobody/spi/v3/members", "/www/spi/v3/recruiters"])
async def test_other_subdomains_are_refused_with_422(client: httpx.AsyncClient, path: str) -> None:
    """A good token on another account's subdomain, or on none's, is told so."""
    answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.json() == {"error": "Request subdomain does not match account subdomain"}


@pytest.mark.parametrize("path", ["", "/", "/nothing", "/accounts/globex", "/recruiters/", "/accounts/acme/x"])
async def test_unknown_paths_are_not_found(client: httpx.AsyncClient, path: str) -> None:
    """What is not there gives the recorded 404."""
    answer = await client.get(f"/acme/spi/v3{path}")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})


async def test_only_reading_is_allowed(client: httpx.AsyncClient, world: World) -> None:
    """Another method is refused, and adds no recruiter."""
    answer = await client.post("/acme/spi/v3/recruiters", json={"name": "A", "email": "a@b.example"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert world.recruiters("acme") == ()


async def test_eleventh_request_is_throttled(client: httpx.AsyncClient) -> None:
    """The limit is ten in a window; the refusal tells the reset and has no Retry-After."""
    for _ in range(10):
        assert (await client.get("/acme/spi/v3/recruiters")).status_code == 200
    refused = await client.get("/acme/spi/v3/recruiters")
    assert refused.status_code == 429
    assert refused.headers["x-rate-limit-reset"] == "1000010"
    assert refused.headers["x-rate-limit-remaining"] == "0"
    assert "retry-after" not in refused.headers


async def test_partners_have_the_larger_limit(client: httpx.AsyncClient) -> None:
    """With a client id the limit is fifty."""
    answer = await client.get("/acme/spi/v3/recruiters", headers={"X-WORKABLE-CLIENT-ID": "us"})
    assert answer.headers["x-rate-limit-limit"] == "50"


async def test_without_a_limit_no_limit_is_told(client: httpx.AsyncClient, world: World) -> None:
    """A switched-off limit sends no headers, so that nobody slows down for it."""
    world.set_limit(Limit.off())
    answer = await client.get("/acme/spi/v3/recruiters")
    assert not [name for name in answer.headers if name.startswith("x-rate")]


async def test_requests_are_logged_without_the_token(client: httpx.AsyncClient, world: World) -> None:
    """The log says who asked what and what they got, and holds no token, known or not."""
    world.fail("acme", Fault.HTML, times=1)
    await client.get("/acme/spi/v3/members?status=all")
    await client.get("/globex/spi/v3/recruiters", headers={"Authorization": "Bearer stranger"})
    first, second = world.log
    assert (first.at, first.method, first.subdomain, first.path) == (1_000_003.5, "GET", "acme", "/members")
    assert (first.query, first.status, first.fault, first.user_agent) == ("status=all", 200, "html", "test/1")
    assert first.fingerprint == fingerprint("acme-token")
    assert (second.status, second.fingerprint, second.fault) == (401, fingerprint("stranger"), None)
    assert 0 <= first.milliseconds < 5000
    assert "acme-token" not in repr(world.log)
    assert "stranger" not in repr(world.log)


async def test_cut_in_process_looks_like_a_cut_connection(client: httpx.AsyncClient, world: World) -> None:
    """Without a network a cut answer raises what a network would have made of it."""
    world.fail("acme", Fault.CUT)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/acme/spi/v3/recruiters")
    assert world.log[0].fault == "cut"


async def test_sandbox_can_be_mounted_below_a_path(world: World) -> None:
    """Under a root path, routes and next pages keep it."""
    for number in range(2):
        world.add_member("acme", name=f"M{number}", email=f"m{number}@acme.example")
    transport = httpx.ASGITransport(app=Sandbox(world), root_path="/inner")
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test/inner") as client:
        answer = await client.get("/acme/spi/v3/members?limit=1", headers={"Authorization": "bearer acme-token"})
    assert answer.json()["paging"]["next"].startswith("http://sandbox.test/inner/acme/spi/v3/members?")


async def test_a_renamed_account_is_reached_under_its_new_name(client: httpx.AsyncClient, world: World) -> None:
    """Its token stays good and names it; the old address answers as for any other account that is not the token's."""
    world.add_recruiter("acme", name="R", email="r@acme.example")
    before = world.account("acme")
    assert before is not None
    assert world.rename_account("acme", "acme-group").id == before.id
    assert (await client.get("/acme/spi/v3/recruiters")).status_code == 422
    [reached] = (await client.get("/www/spi/v3/accounts")).json()["accounts"]
    assert (reached["id"], reached["subdomain"]) == (before.id, "acme-group")
    assert len((await client.get("/acme-group/spi/v3/recruiters")).json()["recruiters"]) == 1
    world.fail("acme", Fault.NOT_FOUND_PAGE)
    page = await client.get("/acme/spi/v3/recruiters")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")


async def test_the_token_of_a_closed_account_reaches_none(client: httpx.AsyncClient, world: World) -> None:
    """It is no wrong token, and there is nothing any more that it could read."""
    world.close_account("acme")
    assert (await client.get("/www/spi/v3/accounts")).json() == {"accounts": []}
    assert (await client.get("/acme/spi/v3/recruiters")).status_code == 404


# ── jobs and candidates ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hiring(world: World) -> World:
    """Acme with three jobs, and a token that may write candidates."""
    world.set_scopes("acme-token", {"r_jobs", "r_candidates", "w_candidates"})
    for number, state in enumerate((JobState.PUBLISHED, JobState.DRAFT, JobState.PUBLISHED)):
        world.add_job("acme", title=f"Job {number}", shortcode=f"JOB{number}", state=state)
    world.add_recruiter("acme", name="Integration", email="ats@example.com")
    return world


async def test_jobs_come_in_pages_and_by_state(client: httpx.AsyncClient, hiring: World) -> None:
    """`since_id` is inclusive, and the last page has no `paging`."""
    first = (await client.get("/acme/spi/v3/jobs", params={"limit": 2})).json()
    assert [job["shortcode"] for job in first["jobs"]] == ["JOB0", "JOB1"]
    last = (await client.get(first["paging"]["next"])).json()
    assert [job["shortcode"] for job in last["jobs"]] == ["JOB2"]
    assert "paging" not in last
    published = (await client.get("/acme/spi/v3/jobs?state=published")).json()
    assert [job["state"] for job in published["jobs"]] == ["published"] * 2
    assert (await client.get("/acme/spi/v3/jobs/JOB1")).json()["title"] == "Job 1"
    for path in ("/jobs/NONE", "/jobs/NONE/candidates", "/jobs/JOB1/nothing", "/jobs/"):
        assert (await client.get(f"/acme/spi/v3{path}")).status_code == 404, path
    assert len((await client.get("/acme/spi/v3/stages")).json()["stages"]) == 5
    assert (await client.get("/acme/spi/v3/jobs/JOB1/stages")).status_code == 200


async def test_a_candidate_is_brought_under_a_recruiters_name(client: httpx.AsyncClient, hiring: World) -> None:
    """It is in the job's list and in the account's, and names who brought it."""
    [recruiter] = hiring.recruiters("acme")
    person = {"firstname": "Ann", "lastname": "Example", "email": "ann@example.com"}
    body = {"candidate": person, "recruiter_key": recruiter.id}
    made = await client.post("/acme/spi/v3/jobs/JOB0/candidates", json=body)
    assert (made.status_code, made.json()["status"]) == (201, "created")
    assert made.json()["candidate"]["recruiter_key"] == recruiter.id
    assert made.headers["x-rate-limit-remaining"] == "9"
    for path in ("/jobs/JOB0/candidates", "/candidates?shortcode=JOB0", "/candidates?email=ann@example.com"):
        listed = (await client.get(f"/acme/spi/v3{path}")).json()["candidates"]
        assert [one["name"] for one in listed] == ["Ann Example"], path
    assert (await client.get("/acme/spi/v3/jobs/JOB1/candidates")).json() == {"candidates": []}
    assert (await client.get("/acme/spi/v3/candidates?email=other@example.com")).json() == {"candidates": []}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"candidate": "Ann"},
        {"candidate": {"name": "Ann"}},
        {"candidate": {"name": "", "email": "ann@example.com"}},
        {"candidate": {"name": "Ann", "email": "no address"}},
        {"candidate": {"name": ["Ann"], "email": "ann@example.com"}},
        {"candidate": {"name": "Ann", "email": "ann@example.com"}, "recruiter_key": "nobody"},
        {"candidate": {"name": "Ann", "email": "ann@example.com"}, "recruiter_key": 7},
        [],
    ],
)
async def test_a_candidate_that_cannot_be_is_422(client: httpx.AsyncClient, hiring: World, body: object) -> None:
    """Nothing is made of it."""
    answer = await client.post("/acme/spi/v3/jobs/JOB0/candidates", json=body)
    assert answer.status_code == 422
    assert hiring.candidates("acme") == ()


async def test_the_same_candidate_is_taken_once(client: httpx.AsyncClient, hiring: World) -> None:
    """A second time in the same job is 422; another job is another matter; a job that is not there too."""
    body = {"candidate": {"name": "Ann", "email": "ann@example.com"}}
    answers = [await client.post(f"/acme/spi/v3/jobs/{job}/candidates", json=body) for job in ("JOB0", "JOB0", "JOB1")]
    assert [answer.status_code for answer in answers] == [201, 422, 201]
    assert (await client.post("/acme/spi/v3/jobs/NONE/candidates", json=body)).status_code == 422


async def test_scopes_are_asked_for(client: httpx.AsyncClient, hiring: World) -> None:
    """Reading needs one, writing another; what nobody may write is 405."""
    hiring.set_scopes("acme-token", {"r_jobs"})
    body = {"candidate": {"name": "Ann", "email": "ann@example.com"}}
    assert (await client.get("/acme/spi/v3/jobs/JOB0/candidates")).status_code == 403
    assert (await client.post("/acme/spi/v3/jobs/JOB0/candidates", json=body)).status_code == 403
    assert (await client.post("/acme/spi/v3/jobs", json={})).status_code == 405
    assert (await client.delete("/acme/spi/v3/jobs/JOB0/candidates")).status_code == 405
    assert hiring.candidates("acme") == ()
