// The control page of the sandbox: asks for the world and the log every second, shows what changed, posts what is pressed.
// Everything that came from outside is put in as text, never as markup.
"use strict";

const API = "/_sandbox/api/";
const EVERY_MS = 1000;
const LOG_ROWS = 200;

const at = (id) => document.getElementById(id);
const shown = new Map(); // what each part of the page was last drawn from, so that only changes are drawn
let entries = [];
let lastEntry = 0;
let busy = false;

// ── building blocks ──

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// A button whose visible word is short; `about` is what a screen reader adds. `key` finds it again after a redraw.
function button(word, about, key, press, kind = "quiet") {
  return make("button", { type: "button", class: kind, "data-key": key, onclick: press },
    word, make("span", { class: "unseen" }, ` ${about}`));
}

function table(caption, heads, rows) {
  return make("table", {},
    make("caption", { class: "unseen" }, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells))));
}

// An e-mail, which may be broken before its @ and its dots.
const email = (text) => text.split(/(?=[@.])/).flatMap((part, index) => index ? [make("wbr"), part] : [part]);

const cell = (content, kind = null) => make("td", { class: kind }, ...[content].flat().map((part) => part ?? "–"));
const lastHead = () => make("span", { class: "unseen" }, "Action");

// Draws a part of the page if what it shows has changed, and gives the focus back to the button that had it.
function draw(place, data, build) {
  const text = JSON.stringify(data);
  if (shown.get(place.id) === text) return;
  shown.set(place.id, text);
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...[build(data)].flat());
  if (!key) return;
  const again = [...place.querySelectorAll("[data-key]")].find((element) => element.dataset.key === key);
  (again ?? place.closest("section")?.querySelector("button, input, select"))?.focus();
}

function say(text) {
  at("status").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { at("status").textContent = ""; }, 6000);
}

// ── talking to the sandbox ──

async function ask(name) {
  const response = await fetch(API + name, { cache: "no-store" });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.json();
}

async function post(name, values) {
  const response = await fetch(API + name, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(values),
  });
  const body = await response.json();
  if (!response.ok) throw Object.assign(new Error(body.error.message), { field: body.error.field });
  return body;
}

async function press(name, values, done) {
  try {
    const body = await post(name, values);
    say(typeof done === "function" ? done(body) : done);
  } catch (error) {
    say(`That did not work: ${error.message}`);
  }
  await refresh();
}

async function refresh() {
  if (busy) return;
  busy = true;
  try {
    const live = at("live").checked;
    const [world, log] = await Promise.all([ask("world"), live ? ask(`log?after=${lastEntry}&limit=${LOG_ROWS}`) : null]);
    at("offline").hidden = true;
    showWorld(world);
    if (log) showLog(log);
  } catch {
    at("offline").hidden = false;
  } finally {
    busy = false;
  }
}

// ── the world ──

function showWorld(world) {
  const tokens = world.accounts.flatMap((account) => account.tokens);
  draw(at("demo-tokens"), tokens.filter((token) => token.demo_token), demoTokens);
  draw(at("account-list"), world.accounts, (accounts) => accounts.length
    ? accounts.map(accountCard) : make("p", { class: "none" }, "No accounts yet. Open one below."));
  showAccountChoices(world.accounts);
  draw(at("active-faults"), world.faults, activeFaults);
  draw(at("fault-kinds"), [world.fault_kinds, world.faults.map((rule) => rule.fault)], faultKinds);
  draw(at("limit-now"), world.limit, limitNow);
}

function demoTokens(tokens) {
  if (!tokens.length) return make("p", { class: "none" }, "This sandbox was started without demonstration tokens.");
  return table("Demonstration tokens", ["Token", "Fingerprint", "What it is", lastHead()], tokens.map((token) => [
    cell(make("code", {}, token.demo_token)),
    cell(make("code", {}, token.fingerprint)),
    cell(token.revoked && !token.note.includes("revoked") ? `${token.note}, revoked meanwhile` : token.note),
    cell(button("Copy", `the token that is ${token.note}`, `copy-${token.fingerprint}`,
      () => copy(token.demo_token)), "act"),
  ]));
}

function accountCard(account) {
  return make("article", { class: "card", "aria-label": account.name },
    make("h3", {}, account.name),
    make("p", { class: "hint" }, "Subdomain ", make("code", {}, account.subdomain), " · id ", make("code", {}, account.id)),
    make("h4", {}, "Tokens"), tokenTable(account),
    make("h4", {}, "External recruiters"), recruiterTable(account),
    make("h4", {}, "Members"), memberTable(account));
}

function tokenTable(account) {
  if (!account.tokens.length) return make("p", { class: "none" }, "None. Nobody can connect yet.");
  return table(`Tokens of ${account.name}`, ["Fingerprint", "Permissions", "State", lastHead()],
    account.tokens.map((token) => [
      cell(make("code", {}, token.fingerprint)),
      cell(token.scopes.join(" ") || "none"),
      cell(make("span", { class: token.revoked ? "bad" : "good" }, token.revoked ? "revoked" : "good"), "mark"),
      cell(token.revoked ? "" : button("Revoke", `token ${token.fingerprint}`, `revoke-${token.fingerprint}`,
        () => press("revoke", { fingerprint: token.fingerprint }, `Token ${token.fingerprint} is revoked.`)), "act"),
    ]));
}

function recruiterTable(account) {
  if (!account.recruiters.length) return make("p", { class: "none" }, "None.");
  return table(`External recruiters of ${account.name}`, ["Name", "Email", lastHead()],
    account.recruiters.map((recruiter) => [
      cell(recruiter.name), cell(email(recruiter.email), "email"),
      cell(button("Remove", recruiter.name, `remove-${recruiter.id}`,
        () => press("recruiter/remove", { subdomain: account.subdomain, recruiter: recruiter.id },
          `${recruiter.name} is removed.`)), "act"),
    ]));
}

function memberTable(account) {
  if (!account.members.length) return make("p", { class: "none" }, "None.");
  return table(`Members of ${account.name}`, ["Name", "Email", "Role"], account.members.map((member) => [
    cell(member.name), cell(email(member.email), "email"), cell(member.active ? member.role : `${member.role}, inactive`),
  ]));
}

// The choice of account in every form; what was chosen stays chosen.
function showAccountChoices(accounts) {
  const names = accounts.map((account) => [account.subdomain, `${account.name} (${account.subdomain})`]);
  if (shown.get("choices") === JSON.stringify(names)) return;
  shown.set("choices", JSON.stringify(names));
  for (const select of document.querySelectorAll("[data-accounts]")) {
    const before = select.value;
    const everywhere = select.dataset.accounts === "everywhere" ? [["*", "every account"], ["www", "www only"]] : [];
    select.replaceChildren(...[...everywhere, ...names].map(([value, text]) => make("option", { value }, text)));
    if ([...select.options].some((option) => option.value === before)) select.value = before;
  }
}

// ── faults ──

function activeFaults(rules) {
  if (!rules.length) return make("p", { class: "none" }, "Nothing is wrong at the moment.");
  return [
    table("Faults in force", ["Fault", "Where", "Paths", "Left", "Struck", lastHead()], rules.map((rule) => [
      cell([make("code", {}, rule.fault), rule.seconds === null ? "" : ` ${rule.seconds} s`]),
      cell(rule.subdomain === "*" ? "every account" : rule.subdomain),
      cell(rule.path === null ? "any" : rule.path),
      cell(rule.remaining === null ? "until healed" : String(rule.remaining)),
      cell(String(rule.struck)),
      cell(button("Heal", `${rule.fault} on ${rule.subdomain}`, `heal-${rule.number}`,
        () => press("heal", { number: rule.number }, `${rule.fault} is healed.`)), "act"),
    ])),
    button("Heal everything", "", "heal-all", () => press("heal", {}, "Nothing is wrong any more."), "danger"),
  ];
}

function faultKinds([kinds, active]) {
  return kinds.map((kind) => make("li", { class: active.includes(kind.fault) ? "on" : null },
    make("div", {}, make("code", {}, kind.fault), kind.summary + (kind.seconds ? ` (${kind.seconds} s unless told)` : "")),
    make("div", { class: "act" },
      button("Force", kind.fault, `force-${kind.fault}`, () => force(kind)),
      active.includes(kind.fault)
        ? button("Heal", kind.fault, `heal-${kind.fault}`,
          () => press("heal", { fault: kind.fault }, `${kind.fault} is healed.`))
        : null)));
}

async function force(kind) {
  const form = at("fault-form");
  const values = { fault: kind.fault, subdomain: form.elements.subdomain.value, path: form.elements.path.value.trim() };
  if (form.elements.times.value) values.times = Number(form.elements.times.value);
  if (kind.timed && form.elements.seconds.value) values.seconds = Number(form.elements.seconds.value);
  await attempt(form, at("fault-error"), "fault", values, (rule) => `${rule.fault} is in force.`);
}

function limitNow(limit) {
  const form = document.querySelector("form[data-action=limit]");
  for (const side of ["requests", "partner"]) form.elements[side].value = limit[side] ?? "";
  const side = (count) => count === null ? "no limit" : `${count} requests`;
  return make("span", {}, `A token has ${side(limit.requests)}, with a partner's client id ${side(limit.partner)}, `
    + `in every window of ${limit.window_seconds} seconds. Leave a field empty to switch that side off.`);
}

// ── the log ──

function showLog(log) {
  if (log.last < lastEntry) entries = []; // another sandbox answers now
  entries = [...entries, ...log.entries].slice(-LOG_ROWS);
  lastEntry = log.last;
  draw(at("log"), entries.map((entry) => entry.number), () => entries.length ? logTable()
    : make("p", { class: "none" }, "No requests yet."));
}

function logTable() {
  return table("Requests, newest first", ["Time", "Account", "Request", "Answer", "Took", "Token", "Client"],
    [...entries].reverse().map((entry) => [
      cell(new Date(entry.at * 1000).toLocaleTimeString(), "number"),
      cell(entry.subdomain || "another host"),
      cell(`${entry.method} ${entry.path}${entry.query ? `?${entry.query}` : ""}`),
      cell([make("span", { class: entry.status < 300 ? "good" : entry.status < 500 ? "warn" : "bad" }, String(entry.status)),
        entry.fault ? ` ${entry.fault}` : ""]),
      cell(`${entry.milliseconds.toFixed(1)} ms`, "number"),
      cell(entry.fingerprint ? make("code", {}, entry.fingerprint) : "none"),
      cell(entry.user_agent || "–"),
    ]));
}

// ── forms ──

// Posts a form; an error is written beside it, and the field that it names is marked and focused.
async function attempt(form, error, name, values, done) {
  error.textContent = "";
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  try {
    const body = await post(name, values);
    say(done(body));
    await refresh();
    return body;
  } catch (problem) {
    error.textContent = problem.field ? `${problem.field}: ${problem.message}` : problem.message;
    const field = problem.field && form.elements.namedItem(problem.field);
    if (field) { field.setAttribute("aria-invalid", "true"); field.focus(); }
    return null;
  }
}

const FORMS = {
  recruiter: { read: texts, done: (made) => `${made.name} is added.` },
  member: { read: texts, done: (made) => `${made.name} is added.` },
  account: { read: texts, done: (made) => `${made.name} is open.` },
  token: {
    read: (form) => ({
      subdomain: form.elements.subdomain.value,
      scopes: form.elements.scopes.value.split(/[\s,]+/).filter(Boolean),
    }),
    done: (made) => `Token ${made.fingerprint} is made.`,
  },
  limit: {
    read: (form) => ({ requests: count(form.elements.requests), partner: count(form.elements.partner) }),
    done: () => "The limit is set.",
  },
};

function texts(form) {
  return Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
}

const count = (field) => field.value === "" ? null : Number(field.value);

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  const { read, done } = FORMS[form.dataset.action];
  const made = await attempt(form, form.querySelector(".error"), form.dataset.action, read(form), done);
  if (!made) return;
  if (form.dataset.action === "token") showOnce(form, made.token);
  for (const field of form.querySelectorAll("input[name=name], input[name=email], input[name=subdomain]")) field.value = "";
}

function showOnce(form, token) {
  const place = form.querySelector(".made");
  place.hidden = false;
  place.replaceChildren("Your token, shown this once: ", make("code", {}, token), " ",
    button("Copy", "the new token", "copy-made", () => copy(token)));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser does not allow copying here; mark the text and copy it.");
  }
}

// ── beginning ──

for (const form of document.querySelectorAll("form[data-action]")) form.addEventListener("submit", submit);
at("fault-form").addEventListener("submit", (event) => event.preventDefault());
at("template").textContent = `${location.origin}/{subdomain}`;
document.querySelector("[data-copy-from]").addEventListener("click", () => copy(at("template").textContent));
at("reset").addEventListener("click", () => {
  if (confirm("Put everything back as it was at the start? The log is emptied too.")) {
    entries = [];
    shown.delete("log");
    press("reset", {}, "The sandbox is as new.");
  }
});
setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
