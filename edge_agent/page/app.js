// The page: one conversation with the agent that serves it. It asks, shows, and keeps nothing but the key.

import { Written, legend } from "./answer.js";
import { ApiError, ask, get, onKeyNeeded, request, watch } from "./api.js";
import { $, bytes, count, make, put, show } from "./dom.js";
import { Figures } from "./figures.js";
import { json, pool, results, totals } from "./sheets.js";
import { tips } from "./tips.js";

const EXAMPLES = [
  "turn on the kitchen light",
  "i need the telly in the dining room on channel 49 at quarter past 11 tonight",
  "play techno in the bedroom, then close the garage window",
];
const MEASURES = "opportunistic"; // the scheme that keeps a risk budget
const figures = new Figures();
const answers = []; // {prompt, body, text, chunk, error, seed, end}
let model = null; // what /v1/models describes
let facts = null; // the last status
let conversation = []; // the messages that the next ask brings
let running = null; // {id, abort, isStopped}

// the key

onKeyNeeded(async (wasWrong) => {
  const dialog = $("key-dialog");
  $("key").value = "";
  show($("key-error"), wasWrong);
  put("key-error", "This is not the key.");
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return $("key").value.trim();
});

// the state of the agent

let retry = () => {};
let countdown = 0;

function banner(text, { kind = "warn", button = false } = {}) {
  show($("banner"), Boolean(text));
  $("banner").dataset.kind = kind;
  put("banner-text", text ?? "");
  show($("banner-button"), button);
}

function pill(state, text) {
  $("pill").dataset.state = state;
  put("pill-text", text);
}

function onStatus(status) {
  clearInterval(countdown);
  const isFirst = facts === null;
  facts = status;
  figures.status(status);
  totals(status.stats, figures);
  if (status.cloud) pill("good", status.worker ? `Cloud · ${status.worker}` : "Cloud");
  else pill(status.needs_cloud ? "warn" : "good", status.needs_cloud ? "No cloud" : "On this device");
  if (status.needs_cloud && !status.cloud) {
    const isLocal = status.on_cloud_loss === "local";
    banner(isLocal ? "The cloud is away: the draft model answers alone, and its text is marked as unverified." : "The cloud is away: no worker can be reached. Answers that need it fail until it is back.");
  } else banner(null);
  if (isFirst) describe().catch(() => {});
  queue();
}

function onLost(seconds, error) {
  facts = null;
  clearInterval(countdown);
  if (error?.status === 401) {
    pill("bad", "Key needed");
    banner("This agent asks for a key.", { kind: "bad", button: true });
    return;
  }
  const isLoading = error?.code === "loading_model";
  const what = isLoading ? "The agent is loading its model" : error?.status ? error.message : "The agent cannot be reached";
  pill(isLoading ? "wait" : "bad", isLoading ? "Loading" : "Offline");
  if (seconds < 1 && !isLoading) banner(`${what}. Trying again …`, { kind: "bad", button: true });
  else banner(`${what}. Trying again in ${Math.ceil(seconds)} s.`, { kind: isLoading ? "warn" : "bad", button: true });
}

async function describe() {
  const [{ data }, props] = await Promise.all([get("v1/models"), get("props")]);
  const isNew = model === null;
  model = { id: data[0].id, ...data[0].hybrid_lm };
  figures.model(model.vocab_size);
  const select = $("scheme");
  const chosen = select.value;
  select.replaceChildren(make("option", { value: "", textContent: `agent’s: ${model.scheme}` }));
  for (const scheme of model.schemes) select.append(make("option", { value: scheme, textContent: scheme }));
  select.value = model.schemes.includes(chosen) ? chosen : "";
  const { params } = props.default_generation_settings;
  $("temperature").placeholder = params.temperature ?? "model’s";
  $("max_tokens").placeholder = params.n_predict ?? "agent’s";
  const isDemo = model.draft === "demo";
  show($("examples"), isDemo);
  if (isDemo && isNew) $("remembers").checked = false; // it was trained on single commands
  settings();
}

// settings of an ask

const value = (id) => ($(id).value.trim() === "" || !$(id).checkValidity() ? undefined : Number($(id).value));

function settings() {
  const scheme = $("scheme").value || model?.scheme;
  const hasRisk = scheme === MEASURES;
  $("risk").disabled = !hasRisk;
  $("risk").placeholder = hasRisk ? (facts?.risk ?? "none") : "not used";
  put("summary", model?.summaries?.[scheme] ? `${scheme}: ${model.summaries[scheme]}` : "");
  const chosen = [scheme];
  if (hasRisk && value("risk") !== undefined) chosen.push(`risk ${value("risk")}`);
  if (value("temperature") !== undefined) chosen.push(`temperature ${value("temperature")}`);
  if (value("max_tokens") !== undefined) chosen.push(`${value("max_tokens")} tokens`);
  if (value("seed") !== undefined) chosen.push(`seed ${value("seed")}`);
  put("chosen", chosen.filter(Boolean).join(" · "));
}

function body(prompt) {
  const before = $("remembers").checked ? conversation : [];
  const own = { tentative: true };
  if ($("scheme").value) own.scheme = $("scheme").value;
  if (!$("risk").disabled && value("risk") !== undefined) own.risk = value("risk");
  return {
    model: model?.id,
    messages: [...before, { role: "user", content: prompt }],
    stream: true,
    temperature: value("temperature"),
    max_tokens: value("max_tokens"),
    seed: value("seed") ?? crypto.getRandomValues(new Uint32Array(1))[0],
    hybrid_lm: own,
  };
}

// the conversation

const log = $("log");
const say = (text) => {
  if (!text.trim()) return;
  $("live").append(make("p", { textContent: text.trim() }));
  while ($("live").children.length > 20) $("live").firstChild.remove();
};

let isAtEnd = true;
log.addEventListener("scroll", () => (isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80));
new ResizeObserver(() => follow(() => {})).observe(log);

function follow(change) {
  const follows = isAtEnd;
  change();
  if (follows) log.scrollTop = log.scrollHeight;
}

function queue() {
  if (!running?.wait) return;
  const text = running.waiting ?? (facts?.waiting ? `Waiting for a free slot, ${count(facts.waiting)} in the queue …` : "Thinking …");
  running.wait.textContent = text;
}

async function answer(request_, again = null) {
  $("welcome")?.remove();
  const prompt = request_.messages.at(-1).content;
  const bubble = make("div", { className: "bubble writing", dir: "auto" });
  const wait = make("span", { className: "wait", textContent: "Thinking …" });
  bubble.append(wait);
  const meta = make("div", { className: "meta" });
  const turn = make("article", { className: "theirs", ariaLabel: "Answer" }, bubble, meta);
  const mine = make("div", { className: "mine" }, make("div", { className: "bubble", dir: "auto", textContent: prompt }));
  follow(() => log.append(mine, turn));
  log.scrollTop = log.scrollHeight;
  const written = new Written(bubble, say);
  const scheme = request_.hybrid_lm.scheme ?? model?.scheme;
  figures.begin(request_.hybrid_lm.risk ?? (scheme === MEASURES ? facts?.risk : null), scheme === MEASURES);
  legend($("fates"), {});
  running = { id: null, abort: new AbortController(), isStopped: false, wait };
  busy(true);
  queue();
  let isDrawn = true;
  const began = () => {
    if (running.wait) {
      running.wait.remove();
      running.wait = null;
    }
  };
  const draw = () => {
    if (!isDrawn) return;
    isDrawn = false;
    requestAnimationFrame(() => {
      isDrawn = true;
      legend($("fates"), written.counts);
    });
  };
  const on = {
    id: (id) => (running.id = id),
    waiting: (text) => {
      const before = /waiting, (\d+) before/.exec(text);
      running.waiting = before ? (before[1] === "0" ? "Next in the queue …" : `Waiting, ${before[1]} before you …`) : undefined;
      queue();
    },
    token: (text, fate, token) => {
      began();
      follow(() => written.token(text, fate, token));
      if (Number.isInteger(token)) figures.token(written.total);
      draw();
    },
    tentative: (text) => {
      began();
      follow(() => written.tentative(text));
    },
    retract: (number) => written.retract(number),
  };
  let chunk = null;
  let error = null;
  try {
    chunk = await ask(request_, on, running.abort.signal);
  } catch (found) {
    if (!(found instanceof ApiError) && found.name !== "AbortError") console.error(found);
    if (!running.isStopped) error = found instanceof ApiError ? found.message : "The page could not show this answer.";
  }
  running.abort.abort(); // also where it fell silent
  began();
  const isStopped = running.isStopped || Boolean(chunk?.hybrid_lm.cancelled);
  running = null;
  follow(() => finish({ request_, prompt, written, chunk, error, isStopped, again, bubble, meta, turn }));
  busy(false);
}

function finish({ request_, prompt, written, chunk, error, isStopped, again, bubble, meta, turn }) {
  written.end();
  bubble.classList.remove("writing");
  const report = chunk?.hybrid_lm;
  legend($("fates"), report?.num_by_fate ?? written.counts);
  figures.end(chunk);
  const seed = report?.seed ?? request_.seed;
  const reason = chunk?.choices[0].finish_reason;
  const end = error ? "failed" : isStopped ? "stopped" : reason === "length" ? "cut off at the limit" : "complete";
  answers.push({ prompt, body: request_, text: written.text, chunk, error, seed, end });
  results(answers, figures);
  json(answers.at(-1));
  conversation = [...request_.messages, { role: "assistant", content: written.text }];
  if (!written.text) {
    if (error) bubble.remove();
    else bubble.append(make("span", { className: "wait", textContent: isStopped ? "Stopped before the first word" : "(no text)" }));
    conversation.splice(-2);
  }
  if (error) turn.insertBefore(make("p", { className: "error", textContent: error + (written.text ? " The text above is what had arrived." : "") }), meta);
  const items = [];
  if (report) items.push(`${count(report.num_tokens)} tokens`, `${count(report.num_uplinks)} uplinks`, `${bytes(report.bytes_up)} up`);
  items.push(`seed ${seed}`);
  if (end !== "complete" && end !== "failed") items.push(end);
  if (report?.cloud_loss) items.push("the cloud was lost");
  if (again && end === "complete") items.push(again.text === written.text ? "✓ the same text again" : "another text than before");
  const repeat = make("button", { type: "button", className: "quiet", textContent: error ? "Try again with this seed" : "Again with this seed" });
  const entry = answers.at(-1);
  repeat.addEventListener("click", () => {
    if (!running) answer({ ...request_, seed: entry.seed }, error || isStopped ? null : entry);
  });
  meta.append(...items.map((text) => make("span", { textContent: text })), repeat);
  const fates = Object.entries(report?.num_by_fate ?? written.counts).filter(([, number]) => number);
  say(error ? `The answer failed: ${error}` : `Answer ${end}. ${fates.map(([fate, number]) => `${number} ${fate}`).join(", ")}.`);
}

function busy(isBusy) {
  show($("stop"), isBusy);
  show($("send"), !isBusy);
  const hadFocus = document.activeElement === document.body || document.activeElement === $("stop");
  if (!isBusy && hadFocus) $("prompt").focus();
}

async function stop() {
  if (!running) return;
  const { id, abort } = running;
  running.isStopped = true;
  if (!id) return abort.abort();
  const late = setTimeout(() => abort.abort(), 2000);
  await request("hybrid/v1/cancel", { body: { id } }).catch(() => abort.abort());
  if (!running) clearTimeout(late);
}

function send(prompt) {
  if (running || !prompt.trim()) return;
  answer(body(prompt));
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = $("prompt").value;
  if (running || !prompt.trim()) return $("prompt").focus();
  $("prompt").value = "";
  send(prompt);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && !$("key-dialog").open && stop());
$("stop").addEventListener("click", stop);
$("settings").addEventListener("input", settings);
$("clear").addEventListener("click", () => {
  if (running) return;
  conversation = [];
  log.replaceChildren();
  $("live").replaceChildren();
  legend($("fates"), {});
  $("prompt").focus();
});
$("marks").addEventListener("change", () => log.classList.toggle("unmarked", !$("marks").checked));
$("banner-button").addEventListener("click", () => retry());
for (const text of EXAMPLES) {
  const button = make("button", { type: "button", textContent: text });
  button.addEventListener("click", () => send(text));
  $("examples").append(button);
}

// the tabs

const tabs = [...document.querySelectorAll("[role=tab]")];
let polling = 0;

function open(tab) {
  for (const one of tabs) {
    const isOpen = one === tab;
    one.setAttribute("aria-selected", isOpen);
    one.tabIndex = isOpen ? 0 : -1;
    show($(one.getAttribute("aria-controls")), isOpen);
  }
  clearInterval(polling);
  if (tab.id === "tab-pool") {
    pool();
    polling = setInterval(() => !document.hidden && pool(), 5000);
  }
}

for (const [number, tab] of tabs.entries()) {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs.at(to % tabs.length);
    open(next);
    next.focus();
  });
}

// the layout: figures and settings are open where there is room for them

for (const [id, query] of [["figures", "(min-width: 60.01rem)"], ["settings", "(min-width: 60.01rem) and (min-height: 54rem)"]]) {
  const media = matchMedia(query);
  const fit = () => ($(id).open = media.matches);
  media.addEventListener("change", fit);
  fit();
}

tips();
legend($("fates"), {});
settings();
retry = watch({ status: onStatus, lost: onLost });
