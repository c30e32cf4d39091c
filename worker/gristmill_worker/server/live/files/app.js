// The live page. It asks its server every few seconds, and shows what comes as text: nothing of it ever becomes markup.

import { line, stack } from "./charts.js";
import { LONG, element, say, sync, table } from "./rows.js";

const POLL_MS = 3000, ANSWER_MS = 15000, RATE_S = 30, KEPT_S = 16 * 60;
const FEW = matchMedia("(max-width: 700px)").matches ? 5 : 15;
const CAUSES = ["busy", "tokens", "store", "no_work"];
// So many looks without a text: nothing moves.
const STALLED_SAMPLES = 4;
const KEY = "gristmill-key", LANGUAGE = "gristmill-language";

const root = document.documentElement;
const at = (id) => document.getElementById(id);
const strings = await (await fetch("strings.json")).json();
const state = {
  language: localStorage.getItem(LANGUAGE) ?? root.lang,
  key: sessionStorage.getItem(KEY) ?? "",
  seen: null, failed: null, samples: [], progress: new Map(), all: { jobs: false, workers: false },
  worst: null, letters: null, collections: [], presets: [], offered: "",
};

// -- words and numbers

function t(key, values = {}) {
  const text = strings[state.language][key] ?? strings.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

const number = (value, options = {}) =>
  value === null || value === undefined ? t("none") : new Intl.NumberFormat(state.language, options).format(value);
const count = (value) => (Math.abs(value) >= 1e6 ? number(value, { notation: "compact", maximumFractionDigits: 2 }) : number(value));
const rate = (value) => (value === null || value === undefined ? t("none") : value >= 1e6 ? count(value) : number(value, { maximumSignificantDigits: 3 }));
const percent = (value) => number(value, { style: "percent", maximumFractionDigits: 1 });
const unit = (value, name, digits = 0) => number(value, { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: digits });

function duration(seconds) {
  if (seconds === null || seconds === undefined) return t("none");
  if (seconds < 120) return unit(seconds, "second", seconds < 10 ? 1 : 0);
  if (seconds < 7200) return unit(seconds / 60, "minute");
  return seconds < 172800 ? unit(seconds / 3600, "hour", 1) : unit(seconds / 86400, "day", 1);
}

function bytes(value) {
  const names = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let place = 0;
  while (value >= 1000 && place < names.length - 1) { value /= 1000; place += 1; }
  return unit(value, names[place], 1);
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString(state.language);

function translate() {
  root.lang = state.language;
  at("language").value = state.language;
  for (const node of document.querySelectorAll("[data-t]")) say(node, t(node.dataset.t));
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
}

// -- asking the server

class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body) {
  const headers = state.key ? { authorization: `Bearer ${state.key}` } : {};
  const how = { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER_MS) };
  if (body !== undefined) {
    Object.assign(how, { method: "POST", body: JSON.stringify(body) });
    Object.assign(headers, { "content-type": "application/json", "x-gristmill-live": "1" });
  }
  const answer = await fetch(`api/${path}`, how);
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, told.error?.message ?? `HTTP ${answer.status}`);
  return told;
}

async function poll() {
  const since = state.samples.at(-1)?.at ?? 0;
  try {
    const seen = await ask(`overview?since=${since}`);
    state.failed = null;
    take(seen);
  } catch (problem) {
    state.failed = problem;
    if (problem.status === 401) lock(state.key ? t("key.wrong") : "");
  }
  show();
}

function take(seen) {
  state.seen = seen;
  state.samples = [...state.samples, ...seen.samples].filter((each) => each.at > seen.at - KEPT_S);
  const jobs = new Map();
  for (const job of seen.jobs ?? []) {
    const before = (state.progress.get(job.job_id) ?? []).filter((each) => each.at > seen.at - RATE_S);
    jobs.set(job.job_id, before.at(-1)?.at === seen.at ? before : [...before, { at: seen.at, finished: job.finished }]);
  }
  state.progress = jobs;
}

async function forever() {
  for (;;) {
    if (!document.hidden && !(root.dataset.keys === "yes" && !state.key)) await poll();
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

// -- the key

function lock(why) {
  state.key = "";
  sessionStorage.removeItem(KEY);
  document.body.classList.add("locked");
  const first = at("key").hidden;
  at("key").hidden = false;
  at("forget").hidden = true;
  at("troubles").hidden = true;
  say(at("key-said"), why);
  if (first) at("key-field").focus();
}

async function unlock(event) {
  event.preventDefault();
  state.key = at("key-field").value.trim();
  await poll();
  if (state.failed) {
    if (state.failed.status !== 401) say(at("key-said"), t("failed", { message: state.failed.message }));
    return;
  }
  sessionStorage.setItem(KEY, state.key);
  at("key-field").value = "";
  at("key").hidden = true;
  at("forget").hidden = false;
  at("content").focus({ preventScroll: true });  // the header, with the servers' state, stays in sight
  await offer();
}

// -- showing

function show() {
  const seen = state.seen;
  showTroubles();
  if (!seen) return;
  const open = !(root.dataset.keys === "yes" && !state.key);
  document.body.classList.toggle("locked", !open);
  say(at("updated"), t(state.failed ? "stale" : "updated", { time: clock(seen.at) }));
  at("updated").classList.toggle("stale", Boolean(state.failed));
  at("read-only").hidden = !seen.read_only;
  if (seen.read_only) say(at("read-only"), t(`readonly.${seen.read_only}`));
  showServers(seen);
  showJobs(seen);
  showQueue(seen);
  showWorkers(seen);
  showActivity(seen);
  showDead(seen);
}

function showServers(seen) {
  const servers = [["Redis", seen.redis], ["Qdrant", seen.qdrant]];
  sync(at("servers"), servers, ([name]) => name, () => element("li"), (node, [name, server]) => {
    node.className = server.state;
    node.title = server.url;
    say(node, t(`server.${server.state}`, { name, ms: unit(server.ms, "millisecond") }));
  });
}

function found() {
  if (state.failed?.status === 403) return [local("critical", t("troubles.refused"), state.failed.message)];
  const own = state.failed ? [local("critical", t("troubles.unreachable"), t("troubles.unreachable.why"))] : [];
  if (!state.seen) return own.length ? own : [local("well", t("troubles.asking"), "")];
  const asking = [state.seen.redis, state.seen.qdrant].some((each) => each.state === "asking");
  const all = [...own, ...state.seen.troubles.map((each) => ({
    ...each, what: each.what[state.language], why: each.why[state.language],
  }))];
  return all.length ? all : [local("well", t(asking ? "troubles.asking" : "troubles.none"), "")];
}

const local = (severity, what, why) => ({ severity, what, why, command: "" });

function showTroubles() {
  const troubles = found();
  at("troubles").hidden = root.dataset.keys === "yes" && !state.key;
  const seen = new Map();
  const keyed = troubles.map((each) => {
    const name = `${each.severity} ${each.kind ?? each.what} ${each.command}`;
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return { ...each, key: `${name} ${seen.get(name)}` };
  });
  sync(at("trouble-list"), keyed, (each) => each.key, makeTrouble, (node, each) => {
    node.className = each.severity === "note" ? "note-level" : each.severity;
    const badge = node.querySelector(".badge");
    badge.hidden = each.severity === "well";
    if (!badge.hidden) say(badge, t(`severity.${each.severity}`));
    say(node.querySelector(".sentence"), each.what);
    say(node.querySelector(".why"), each.why);
    const command = node.querySelector(".command");
    command.hidden = !each.command;
    say(command.firstElementChild, each.command);
    say(command.lastElementChild, t("copy"));
    command.lastElementChild.setAttribute("aria-label", t("copy.what", { command: each.command }));
  });
  const bad = troubles.filter((each) => each.severity !== "well");
  const kinds = bad.map((each) => each.kind ?? "").sort().join();
  if (state.worst !== null && kinds !== state.worst) {
    say(at("news"), bad.length ? t("news.some", { count: bad.length, what: bad[0].what }) : t("news.none"));
  }
  state.worst = kinds;
}

function makeTrouble() {
  const copy = element("button", { type: "button" });
  const node = element("li", {},
    element("p", { class: "what" }, element("span", { class: "badge" }), element("span", { class: "sentence" })),
    element("p", { class: "why" }), element("div", { class: "command" }, element("code"), copy));
  copy.addEventListener("click", () => copied(node.querySelector("code")));
  return node;
}

async function copied(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    say(at("news"), t("copied"));
  } catch {  // only where the page came by https or from this machine; else it is selected, to be copied by hand
    getSelection().selectAllChildren(node);
  }
}

/** Buttons of a row, kept as they are while the same can be done. */
function buttons(box, wanted) {
  sync(box, wanted, (each) => each.key, () => {
    const made = element("button", { type: "button" });
    made.addEventListener("click", () => made.act());
    return made;
  }, (made, each) => {
    made.act = each.act;
    say(made, each.text);
    made.setAttribute("aria-label", each.says);
  });
}

function lines(box, texts) {
  sync(box, texts.filter(Boolean).map((each, index) => ({ index, ...(typeof each === "string" ? { text: each } : each) })),
    (each) => each.index, () => element("span"), (node, each) => {
      node.className = each.class ?? (each.index ? "sub" : "");
      node.title = each.text.length > LONG ? each.text : "";
      say(node, each.text);
    });
}

function showJobs(seen) {
  const jobs = seen.jobs ?? [];
  const shown = state.all.jobs ? jobs : jobs.slice(0, FEW);
  table(at("job-table"), t("jobs"), [
    { key: "id", name: t("job.id"), show: (job, box) => lines(box, [{ text: job.job_id, class: "mono" }, job.tenant ?? ""]) },
    { key: "collection", name: t("job.collection"), show: (job) => job.collection },
    { key: "state", name: t("job.state"), short: true, show: (job) => t(`state.${stateOf(job)}`) },
    { key: "progress", name: t("job.progress"), show: showProgress },
    { key: "rate", name: t("job.rate"), number: true, show: (job) => rate(rateOf(job)) },
    { key: "ends", name: t("job.ends"), show: (job, box) => lines(box, [
      [job.stored, job.skipped, job.dead].map(count).join(" · "),
      job.rejected ? { text: t("job.rejected", { count: count(job.rejected) }), class: "notice" } : "",
    ]) },
    { key: "actions", name: t("job.actions"), show: (job, box) => buttons(box, actionsOf(job, seen)) },
  ], shown, (job) => job.job_id);
  empty("jobs", jobs);
  more("jobs", jobs.length, jobs.length);
}

function stateOf(job) {
  if (job.state !== "done" && job.paused) return "paused";
  return strings.en[`state.${job.state}`] ? job.state : "running";
}

function showProgress(job, box) {
  if (!box.firstElementChild) box.append(element("progress", { max: 1 }), element("span", { class: "sub" }));
  const [bar, text] = box.children;
  bar.value = job.accepted ? job.finished / job.accepted : job.state === "done" ? 1 : 0;
  bar.setAttribute("aria-label", `${t("job.progress")} ${job.job_id}`);
  say(text, t("job.progress.of", { finished: count(job.finished), accepted: count(job.accepted) }));
  text.title = `${job.finished} / ${job.accepted}`;
}

function rateOf(job) {
  if (job.state === "done") return job.rate;
  const looks = state.progress.get(job.job_id) ?? [];
  const first = looks[0], last = looks.at(-1);
  return last && last.at - first.at > 1 ? (last.finished - first.finished) / (last.at - first.at) : job.rate;
}

function actionsOf(job, seen) {
  if (seen.read_only || job.state === "done" || job.state === "cancelled") return [];
  const wanted = job.paused ? ["resume", "cancel"] : ["pause", "cancel"];
  return wanted.filter((name) => seen.job_actions.includes(name)).map((name) => ({
    key: name, text: t(`action.${name}`), says: t(`action.${name}.what`, { id: job.job_id }), act: () => changeJob(job, name),
  }));
}

async function changeJob(job, action) {
  const values = { id: job.job_id, collection: job.collection, pending: number(job.pending) };
  if (action === "cancel" && !(await confirmed(t("confirm.cancel"), t("confirm.cancel.text", values), t("action.cancel.what", values)))) return;
  await told("jobs", async () => {
    await ask(`jobs/${encodeURIComponent(job.job_id)}/${action}`, {});
    return t(`done.${action}`, values);
  });
  await poll();
}

// What a rate says of work that nobody does is worse than nothing.
function stalled(queue) {
  const lately = state.samples.slice(-STALLED_SAMPLES);
  return queue.parcels > 0 && lately.length === STALLED_SAMPLES && lately.every((each) => !each.texts_per_s);
}

/** As `gristmill queue` says it; why it says nothing, where it does. */
function workLeft(queue) {
  if (stalled(queue)) return t("queue.stalled");
  return queue.seconds === null && queue.parcels ? { text: t("queue.unknown"), class: "sub" } : duration(queue.seconds);
}

function showQueue(seen) {
  const queues = seen.queues ?? [];
  table(at("queue-table"), t("queue"), [
    { key: "model", name: t("queue.model"), show: (each) => each.model || each.model_digest },
    { key: "waits", name: t("queue.waits"), show: (each) => t("queue.waits.of", {
      documents: count(each.documents), parcels: count(each.parcels), held: count(each.held_parcels),
    }) },
    { key: "oldest", name: t("queue.oldest"), number: true, show: (each) => duration(each.oldest_waiting_s) },
    { key: "seconds", name: t("queue.seconds"), number: true, show: (each, box) => lines(box, [workLeft(each), each.tokens_per_s && each.parcels
      ? t("queue.rate", { rate: number(Math.round(each.tokens_per_s)) }) : ""]) },
    { key: "served", name: t("queue.served"), show: (each, box) => lines(box, [{
      text: t(each.loading ? "queue.served.loading" : each.workers === 1 ? "queue.served.one" : each.workers ? "queue.served.by" : "queue.served.nobody", each),
      class: each.workers || each.loading || !each.parcels ? "" : "alarm",
    }]) },
  ], queues, (each) => each.model_digest);
  empty("queue", queues);
}

function stateOfWorker(worker) {
  const known = strings.en[`wstate.${worker.state}`] ? t(`wstate.${worker.state}`) : worker.state;
  if (worker.state !== "waiting" || !worker.waits.length) return known;
  return t("wstate.waiting.for", { what: worker.waits.map((each) => t(`wait.${each}`)).join(t("list.comma")) });
}

function showWorkers(seen) {
  const workers = seen.workers ?? [];
  const shown = state.all.workers ? workers : workers.slice(0, FEW);
  table(at("worker-table"), t("workers"), [
    { key: "name", name: t("worker.name"), show: (each, box) => lines(box, [{ text: each.name, class: "mono" }]) },
    { key: "state", name: t("worker.state"), show: (each, box) => lines(box, [
      { text: stateOfWorker(each), class: each.state === "waiting" ? "warned" : "" },
      ...each.notices.map((text) => ({ text, class: "notice" })),
    ]) },
    { key: "serves", name: t("worker.serves"), show: (each, box) => lines(box, [
      ...each.engines.flatMap((engine) => [
        { text: `${engine.model} · ${engine.device}`, class: "" },
        engine.batch_s > 10 ? { text: t("worker.batch", { time: duration(engine.batch_s) }), class: "alarm" } : "",
      ]),
      ...each.loading.map((model) => ({ text: `${model} (${t("wstate.loading")})`, class: "sub" })),
    ]) },
    { key: "hand", name: t("worker.hand"), number: true, show: (each) => number(each.parcels) },
    { key: "did", name: t("worker.did"), number: true, show: (each) => count(each.engines.reduce((sum, engine) => sum + (engine.texts ?? 0), 0)) },
    { key: "up", name: t("worker.up"), number: true, show: (each) => duration(each.up_s) },
  ], shown, (each) => each.name);
  empty("workers", workers);
  more("workers", workers.length, seen.all_workers);
}

function empty(section, items) {
  at(section).querySelector(".none").hidden = items.length > 0;
}

function more(section, listed, all) {
  const button = at(`more-${section}`);
  button.hidden = listed <= FEW;
  const beyond = all > listed ? `, ${t(`${section}.beyond`, { count: count(all - listed) })}` : "";
  say(button, state.all[section] ? `${t("less")}${beyond}` : t(`${section}.more`, { count: count(listed) }) + beyond);
  button.setAttribute("aria-expanded", String(state.all[section]));
}

function showActivity(seen) {
  const samples = state.samples, until = samples.at(-1)?.at ?? seen.at, last = samples.at(-1);
  const labels = (most) => ({ ago: t("chart.ago", { minutes: 15 }), now: t("chart.now"), most });
  const draw = (id, title, valueOf) => {
    const most = Math.max(0, ...samples.map((each) => valueOf(each) ?? 0));
    const says = last ? t("chart.says", { title: t(title), now: rate(valueOf(last)), most: rate(most), minutes: 15 }) : t("chart.none");
    line(at(id), samples, valueOf, says, labels(most > 0 ? rate(most) : ""), until);
  };
  draw("chart-rate", "chart.rate", (each) => each.tokens_per_s);
  draw("chart-waiting", "chart.waiting", (each) => each.waiting);
  const shares = last && Object.keys(last.shares).length ? CAUSES.map((cause) => `${t(`cause.${cause}`)} ${percent(last.shares[cause])}`).join(", ") : t("chart.none");
  stack(at("chart-shares"), samples, CAUSES, `${t("chart.shares")}: ${shares}`, labels("100 %"), until);
  sync(at("legend"), CAUSES, (cause) => cause, makeLegend, (node, cause) => say(node.lastElementChild, t(`cause.${cause}`)));
  showSamples();
}

function makeLegend(cause) {
  const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", class: cause })) square.setAttribute(name, value);
  box.setAttribute("aria-hidden", "true");
  box.append(square);
  return element("li", {}, box, element("span"));
}

function showSamples() {
  const minutes = new Map();
  for (const each of state.samples) minutes.set(Math.floor(each.at / 60), each);
  const rows = [...minutes.values()].reverse().slice(0, 16);
  table(at("sample-table"), t("activity"), [
    { key: "time", name: t("sample.time"), show: (each) => clock(each.at) },
    { key: "rate", name: t("sample.rate"), number: true, show: (each) => rate(each.tokens_per_s) },
    ...CAUSES.map((cause) => ({ key: cause, name: t(`cause.${cause}`), number: true, show: (each) => percent(each.shares[cause]) })),
    { key: "waiting", name: t("sample.waiting"), number: true, show: (each) => number(each.waiting) },
    { key: "dead", name: t("sample.dead"), number: true, show: (each) => number(each.dead) },
  ], rows, (each) => Math.floor(each.at / 60));
}

// -- dead letters

function showDead(seen) {
  const dead = seen.dead;
  if (!dead) return;
  at("dead-share").hidden = dead.letters === 0;
  say(at("dead-share"), t("dead.share", { letters: number(dead.letters), share: percent(dead.share), most: bytes(dead.max_bytes) }));
  table(at("dead-table"), t("dead"), [
    { key: "error", name: t("dead.error"), show: (each) => each.error },
    { key: "collection", name: t("dead.collection"), show: (each) => each.collection },
    { key: "letters", name: t("dead.letters"), number: true, show: (each) => number(each.letters) },
    { key: "newest", name: t("dead.newest"), show: (each) => (each.age_s === null ? t("none") : t("ago", { time: duration(each.age_s) })) },
    { key: "example", name: t("dead.example"), show: (each, box) => lines(box, [{ text: each.reason || t("none"), class: "clip" }]) },
    { key: "actions", name: t("dead.actions"), show: (each, box) => buttons(box, [
      { key: "look", text: t("dead.look"), says: t("dead.look.what", each), act: () => look(each) },
      ...(seen.read_only ? [] : [{ key: "replay", text: t("dead.replay"), says: t("dead.replay.what", each), act: () => replayAll(each) }]),
    ]) },
  ], dead.groups, (each) => JSON.stringify([each.collection, each.error]));
  empty("dead", dead.groups);
}

const look = (group) => told("dead", async () => {
  await openLetters(group, document.activeElement);
  return "";
});

/** The focus follows from where it was asked, unless somebody has gone on since: an answer may be late. */
async function openLetters(group, asker) {
  const { letters } = await ask(`dead?${new URLSearchParams({ collection: group.collection, error: group.error })}`);
  const waits = [asker, document.body].includes(document.activeElement);
  state.letters = { group, letters };
  showLetters();
  if (waits) at("letters-title").focus();
}

function showLetters() {
  at("letters").hidden = !state.letters;
  if (!state.letters) return;
  const { group, letters } = state.letters;
  say(at("letters-title"), t("letters.title", { ...group, count: number(letters.length) }));
  at("letter-list").replaceChildren(...letters.map((letter) => element("li", {}, showLetter(group, letter))));
}

function showLetter(group, letter) {
  const name = letter.document ?? t("letter.unread");
  const told_ = [["letter.reason", letter.reason], ["letter.text", letter.text ?? t("letter.gone")], ["letter.attempts", number(letter.attempts)],
    ["letter.tenant", letter.tenant], ["letter.job", letter.job_id], ["letter.id", letter.id]].filter(([, value]) => value);
  const more_ = element("details", {}, element("summary", {}, `${name} · ${t("ago", { time: duration(letter.age_s) })}`),
    element("dl", {}, ...told_.flatMap(([key, value]) => [element("dt", {}, t(key)), element("dd", {}, value)])));
  if (letter.replayable && !state.seen.read_only) {
    const again = element("button", { type: "button", "aria-label": t("dead.replay.one.what", { document: name }) }, t("dead.replay.one"));
    again.addEventListener("click", () => replayOne(group, letter, name));
    more_.append(again);
  }
  return more_;
}

async function replayAll(group) {
  const values = { ...group, count: number(group.letters) };
  if (!(await confirmed(t("confirm.replay"), t("confirm.replay.text", values), t("dead.replay")))) return;
  await replay({ collection: group.collection, error: group.error });
}

async function replayOne(group, letter, document_) {
  const values = { document: document_, collection: group.collection };
  const asker = document.activeElement;
  if (!(await confirmed(t("confirm.replay.one"), t("confirm.replay.one.text", values), t("dead.replay.one")))) return;
  if (await replay({ letter: letter.id })) await openLetters(group, asker).catch(() => {});  // what was done stays said
}

async function replay(body) {
  const done = await told("dead", async () => {
    const answer = await ask("dead/replay", body);
    const stay = answer.all_stay ? ` ${t("done.replay.stay", { count: number(answer.all_stay), reason: answer.stay[0] })}` : "";
    return (answer.jobs.length ? t("done.replay", { jobs: answer.jobs.join(", ") }) : t("done.replay.none")) + stay;
  });
  await poll();
  return done;
}

// -- what is done, and how it went

async function told(section, act) {
  const place = at(section).querySelector(".said");
  try {
    place.classList.remove("failed");
    say(place, await act());
    return true;
  } catch (problem) {
    place.classList.add("failed");
    say(place, t("failed", { message: problem.message }));
    return false;
  }
}

/** Answers the question that is asked now. */
let decide = () => {};

function confirmed(title, text, yes) {
  const dialog = at("confirm");
  say(at("confirm-title"), title);
  say(at("confirm-text"), text);
  say(at("confirm-yes"), yes);
  decide(false);
  dialog.showModal();
  at("confirm-no").focus();
  return new Promise((done) => { decide = done; });
}

function answerWith(yes) {
  decide(yes);
  at("confirm").close();
}

// -- search

async function offer() {
  try {
    const { collections, presets } = await ask("collections");
    Object.assign(state, { collections, presets });
    offerCollections();
  } catch { /* the search box says what is wrong, once somebody searches */ }
}

function offerCollections() {
  const offered = JSON.stringify([state.collections, state.language]);
  if (offered === state.offered) return;
  state.offered = offered;
  const chosen = at("search-collection").value;
  const none = element("option", { value: "" }, t("search.collection.none"));
  at("search-collection").replaceChildren(...(state.collections.length ? state.collections.map((each) => element("option", { value: each.name }, each.name)) : [none]));
  if (state.collections.some((each) => each.name === chosen)) at("search-collection").value = chosen;
  offerOptions();
}

function offerOptions() {
  const collection = state.collections.find((each) => each.name === at("search-collection").value);
  const lens = at("search-lens").value;
  const lenses = collection?.lenses ?? [];
  at("search-lens").replaceChildren(element("option", { value: "" }, t("search.lens.none")), ...lenses.map((name) => element("option", { value: name }, name)));
  if (lenses.includes(lens)) at("search-lens").value = lens;
  at("search-lens").disabled = !lenses.length;
  at("tenant-label").hidden = !collection?.tenants;
  for (const option of at("search-mode").options) option.disabled = option.value !== "dense" && collection && !collection.keyword;
  if (at("search-mode").selectedOptions[0]?.disabled) at("search-mode").value = "dense";
  const presets = state.presets.filter((each) => each.language === state.language);
  at("instructions").replaceChildren(
    ...(collection?.instructions ?? []).map((label) => element("option", { value: label })),
    ...presets.map((each) => element("option", { value: each.reference }, each.text)),
  );
}

async function search(event) {
  event.preventDefault();
  const body = {
    collection: at("search-collection").value, query: at("search-query").value, mode: at("search-mode").value,
    limit: at("search-limit").valueAsNumber, explain: at("search-explain").checked,
  };
  for (const [name, id] of [["instruction", "search-instruction"], ["lens", "search-lens"], ["tenant", "search-tenant"]]) {
    if (at(id).value) body[name] = at(id).value;
  }
  say(at("search").querySelector(".said"), t("search.busy"));
  await told("search", async () => {
    const { hits, explanation } = await ask("search", body);
    at("hits").replaceChildren(...hits.map(showHit));
    showExplanation(explanation);
    return hits.length ? t("search.found", { count: number(hits.length) }) : t("search.none");
  });
}

function showHit(hit) {
  const about = [
    `${number(hit.score, { maximumSignificantDigits: 5 })} ${hit.score_kind}`,
    hit.chunks > 1 ? t("hit.chunk", { chunk: hit.chunk + 1, chunks: hit.chunks }) : "",
    hit.lens ? t("hit.lens", { name: hit.lens }) : "",
    hit.instruction ? t("hit.instruction", { name: hit.instruction }) : "",
    hit.tenant ? t("hit.tenant", { name: hit.tenant }) : "",
  ].filter(Boolean).join(" · ");
  const text = hit.parts.map((part) => (part.match ? element("mark", {}, part.text) : part.text));
  return element("li", {}, element("h3", {}, hit.id), element("p", { class: "about" }, about),
    element("p", { class: "text" }, ...text), ...(hit.metadata ? [element("p", { class: "about mono" }, hit.metadata)] : []));
}

function showExplanation(explanation) {
  at("explanation").hidden = !explanation;
  if (!explanation) return;
  const took = Object.entries(explanation.took_ms).map(([stage, ms]) => `${stage} ${unit(ms, "millisecond", 1)}`).join(", ");
  const rows = [
    ["explain.mode", explanation.mode], ["explain.score_kind", explanation.score_kind],
    ["explain.instruction", explanation.instruction_text], ["explain.template", explanation.template], ["explain.lens", explanation.lens],
    ["explain.took", took], ["explain.server", explanation.server_ms === null ? null : unit(explanation.server_ms, "millisecond", 1)],
  ].filter(([, value]) => value);
  at("explained").replaceChildren(...rows.flatMap(([key, value]) => [element("dt", {}, t(key)), element("dd", {}, value)]));
  say(at("explained-query"), JSON.stringify({ query: explanation.query, filter: explanation.filter }, null, 1));
}

// -- begin

at("language").addEventListener("change", () => {
  state.language = at("language").value;
  localStorage.setItem(LANGUAGE, state.language);
  translate();
  offerCollections();
  showLetters();
  show();
});
at("key-form").addEventListener("submit", unlock);
at("forget").addEventListener("click", () => lock(""));
at("search-form").addEventListener("submit", search);
at("search-collection").addEventListener("change", offerOptions);
at("search").addEventListener("focusin", offer);
at("letters-close").addEventListener("click", () => { state.letters = null; showLetters(); at("dead-title").scrollIntoView(); });
at("confirm-no").addEventListener("click", () => answerWith(false));
at("confirm-yes").addEventListener("click", () => answerWith(true));
// By Escape. The event comes later than the closing, so the next question may have been asked by then.
at("confirm").addEventListener("close", () => at("confirm").open || decide(false));
for (const section of ["jobs", "workers"]) {
  at(`more-${section}`).addEventListener("click", () => { state.all[section] = !state.all[section]; show(); });
}
addEventListener("resize", () => state.seen && showActivity(state.seen));
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

if (!strings[state.language]) state.language = "en";
translate();
at("forget").hidden = !state.key;
if (root.dataset.keys === "yes" && !state.key) lock("");
else offer();
forever();
