// What makes the dialog better with JavaScript: the link's secret stays in the fragment, screens change without loading
// a page, the page goes on by itself, and copying says what became of it. Without it every form works as it is.
const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// The page that was loaded stands for the link: its path never changes, and neither does its secret.
const page = location.pathname;
const isPlain = !document.body.hasAttribute("data-boot");
const secret = isPlain ? $("input[name=secret]")?.value ?? page.split("/").pop() : location.hash.slice(1);
const state = isPlain ? page.replace(/\/[^/]*$/, "/state") : `${page.replace(/\/$/, "")}/state`;
let timer, tag, asking = false, failed = 0;

const viewed = () => new URLSearchParams(location.search).get("at");

// ── screens ──────────────────────────────────────────────────────────────────────────────────────────────────────────

async function send(fields) {
  const body = new URLSearchParams(fields);
  body.set("secret", secret);
  const answer = await fetch(page, {
    method: "POST", body, headers: { "x-dialog": "1" }, credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
  });
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  // What a proxy says in our place, and that it is not possible just now, take no form away.
  if (answer.status >= 500 || !next.body.dataset.screen) throw new Error(answer.status);
  return next;
}

function show(next, { focus = true, isNews = false } = {}) {
  const before = document.body.dataset.screen;
  document.title = next.title;
  document.documentElement.lang = next.documentElement.lang;
  document.documentElement.dir = next.documentElement.dir;
  for (const { name } of [...document.body.attributes]) document.body.removeAttribute(name);
  for (const { name, value } of next.body.attributes) document.body.setAttribute(name, value);
  // The status stays: what is put into a new one at once is not read out.
  const heard = $("#heard");
  $("#heard", next)?.remove();
  for (const node of [...document.body.childNodes]) if (node !== heard) node.remove();
  heard.before(...next.body.childNodes);
  prepare();
  const same = before === document.body.dataset.screen;
  if (!same) scrollTo(0, 0);
  if (focus) ($("#summary") ?? (same ? $("#live .box") : null) ?? $("h1"))?.focus({ preventScroll: same && !$("#summary") });
  say(isNews ? $("h1")?.textContent ?? "" : "");
}

function say(text) {
  const place = $("#heard");
  if (place && place.textContent !== text) place.textContent = text;
}

async function open(fields = {}, options) {
  try {
    show(await send(fields), options);
  } catch {
    if (!isOpening("data-offline")) say(document.body.dataset.failed ?? "");
  }
}

// True if no screen was shown yet; says then why not.
function isOpening(why) {
  const told = $(`[${why}]`);
  if (!told) return false;
  for (const each of all("[data-opening], .boot")) each.hidden = each !== told;
  $("h1").textContent = told.dataset.title;
  return true;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-send]")) return;
  event.preventDefault();
  if (asking) return;
  asking = true;
  const fields = new FormData(form), button = event.submitter ?? $("button", form), label = button.textContent;
  const token = $("input[name=token]", form);
  button.setAttribute("aria-busy", "true");
  if (button.dataset.busy) { button.textContent = button.dataset.busy; say(button.dataset.busy); }
  try {
    const next = await send(fields);
    if (token) token.value = "";
    const asked = fields.get("at");
    if (asked && asked === next.body.dataset.screen) history.pushState(null, "", `?at=${asked}${location.hash}`);
    show(next);
  } catch {
    button.textContent = label;
    button.removeAttribute("aria-busy");
    $(".offline")?.remove();
    const told = Object.assign(document.createElement("p"), { className: "wrong offline", textContent: document.body.dataset.failed });
    told.setAttribute("role", "alert");
    button.closest(".actions").before(told);
  } finally {
    asking = false;
  }
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link?.matches("[data-again]")) { event.preventDefault(); location.reload(); }
  if (link?.matches(".summary a")) {
    event.preventDefault();
    const field = $(link.getAttribute("href"));
    (field?.matches("fieldset") ? $("input", field) : field)?.focus();
  }
  if (link?.matches("[data-go]") && !(event.metaKey || event.ctrlKey || event.shiftKey)) {
    event.preventDefault();
    const to = link.getAttribute("href");
    history.pushState(null, "", (to === "?" ? page : to) + location.hash);
    open({ at: viewed() ?? "" });
  }
  const button = event.target.closest("button");
  if (button?.dataset.copy) copy(button);
  if (button?.dataset.show) {
    const field = $(`#${button.dataset.show}`), other = button.dataset.shown;
    field.classList.toggle("masked");
    button.dataset.shown = button.textContent;
    button.textContent = other;
    field.focus();
  }
  if (button?.closest("[data-close]")) {
    const place = button.closest("[data-close]");
    window.close();
    place.textContent = place.dataset.close;
    place.tabIndex = -1;
    place.focus();
    say(place.textContent);
  }
});

addEventListener("popstate", () => open({ at: viewed() ?? "" }));
addEventListener("pagehide", () => { for (const field of all("input[name=token]")) field.value = ""; });
addEventListener("pageshow", (event) => { if (event.persisted) open({ at: viewed() ?? "" }); });

// ── copying: “copied” is said only once it is ────────────────────────────────────────────────────────────────────────

async function copy(button) {
  const source = $(`#${button.dataset.copy}`), text = source.dataset.value ?? source.value ?? source.textContent;
  const label = (button.dataset.label ??= button.textContent);
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    select(source);
    try { done = document.execCommand("copy"); } catch { done = false; }
  }
  if (!done) select(source);
  const told = done ? button.dataset.done : /Mac|iP/.test(navigator.platform) ? button.dataset.byHand.replace("Ctrl+", "⌘") : button.dataset.byHand;
  button.textContent = told;
  say(told);
  if (done) setTimeout(() => { button.textContent = label; }, 6000);
}

function select(source) {
  if (source.select) { source.focus(); source.select(); return; }
  getSelection().selectAllChildren(source);
}

// ── going on by itself ───────────────────────────────────────────────────────────────────────────────────────────────

async function ask() {
  clearTimeout(timer);
  if (document.hidden || !document.body.hasAttribute("data-goes-on")) return;
  let pause = 5;
  try {
    const headers = { "x-link-secret": secret };
    if (tag) headers["if-none-match"] = tag;
    const answer = await fetch(state + location.search, { headers, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" });
    pause = Number(answer.headers.get("x-poll-seconds")) || pause;
    if (failed) { failed = 0; say(""); }
    if (answer.status === 200) {
      const news = await answer.json();
      if (news.screen !== document.body.dataset.screen && !asking) await open({ at: viewed() ?? "" }, { focus: !isTyping(), isNews: true });
      if (news.screen === document.body.dataset.screen) {
        tag = answer.headers.get("etag");
        draw(news.live);
      } else {
        tag = undefined;
        pause = 3;
      }
    } else if (answer.status !== 304) {
      throw new Error(answer.status);
    }
  } catch {
    failed += 1;
    pause = Math.min(30, 3 * 2 ** failed);
    if (failed === 2) say(document.body.dataset.failed ?? "");
  }
  clearTimeout(timer);
  timer = setTimeout(ask, pause * 1000);
}

function draw(html) {
  const live = $("#live"), fresh = document.createElement("div");
  fresh.innerHTML = html;
  if (!live || !html || shape(fresh) === shape(live)) return;
  const had = live.contains(document.activeElement), before = $(".box-title", live)?.textContent;
  live.replaceChildren(...fresh.childNodes);
  tick();
  if (had) $(".box", live)?.focus({ preventScroll: true });
  const now = $(".box-title", live)?.textContent;
  if (now !== before) say(now ?? "");
}

// What is drawn, without the times, which the script itself writes.
function shape(root) {
  const copy = root.cloneNode(true);
  for (const time of all("time", copy)) time.textContent = "";
  return copy.innerHTML.trim();
}

const isTyping = () => Boolean(document.activeElement?.matches("input[type=text]") && document.activeElement.value);

document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
addEventListener("online", ask);

// ── what only a script can do ────────────────────────────────────────────────────────────────────────────────────────

// English dates are written as the rest of the page writes them.
const region = () => document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;

function tick() {
  for (const time of all("time[data-ago]")) {
    const seconds = Math.max(0, Math.round((Date.now() - new Date(time.dateTime)) / 1000));
    const [span, unit] = seconds < 60 ? [seconds, "second"] : seconds < 3600 ? [Math.floor(seconds / 60), "minute"] : [Math.floor(seconds / 3600), "hour"];
    time.textContent = new Intl.RelativeTimeFormat(region(), { numeric: span ? "always" : "auto" }).format(-span, unit);
  }
}
setInterval(tick, 1000);

function prepare() {
  // The address names a screen only as long as it is the one that is shown.
  if (viewed() && viewed() !== document.body.dataset.screen) history.replaceState(null, "", page + location.hash);
  tick();
  for (const button of all("[data-copy], [data-show], [data-close]")) button.hidden = false;
  for (const time of all("time[data-local]")) {
    const at = new Date(time.dateTime);
    time.textContent = new Intl.DateTimeFormat(region(), { dateStyle: "long", timeStyle: "short" }).format(at);
  }
  for (const token of all("input[name=token]")) token.value = "";
  clearTimeout(timer);
  tag = document.body.dataset.goesOn;
  if (tag !== undefined) timer = setTimeout(ask, 2000);
}

document.documentElement.classList.add("scripted");
if (isPlain) { if (secret) prepare(); }
else if (!secret) isOpening("data-incomplete");
else open({ at: viewed() ?? "" });
