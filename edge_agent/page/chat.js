// The conversation: asks, shows each answer as it is written, stops and repeats it.

import { agent } from "./agent.js";
import { Written, legend } from "./answer.js";
import { ApiError, ask, request } from "./api.js";
import { $, bytes, count, make, show } from "./dom.js";
import { figures } from "./figures.js";
import { budget } from "./settings.js";
import { json, results } from "./sheets.js";

const STOPPING = 2000; // ms in which a stopped answer may still end by itself
const SAID = 20; // sentences that a screen reader may still have to read

const log = $("log");
const answers = []; // {prompt, body, text, chunk, error, seed, end}
let isAtEnd = true; // of the log, so that it follows the text
let running = null; // {id, abort, isStopped, wait, waiting}

// the messages that the next request brings
export let conversation = [];

export const isRunning = () => running !== null;

export function forget() {
	conversation = [];
	log.replaceChildren();
	$("live").replaceChildren();
	legend($("fates"), {});
}

export function keepAtEnd() {
	log.addEventListener("scroll", () => (isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80));
	new ResizeObserver(() => following(() => {})).observe(log);
}

function following(change) {
	const follows = isAtEnd;
	change();
	if (follows) log.scrollTop = log.scrollHeight;
}

function say(text) {
	if (!text.trim()) return;
	$("live").append(make("p", { textContent: text.trim() }));
	while ($("live").children.length > SAID) $("live").firstChild.remove();
}

// Shows why nothing is written yet.
export function waiting() {
	if (!running?.wait) return;
	const queued = agent.facts?.waiting;
	running.wait.textContent = running.waiting ?? (queued ? `Waiting for a free slot, ${count(queued)} in the queue …` : "Thinking …");
}

function wrote() {
	running.wait?.remove();
	running.wait = null;
}

// Asks, and shows the answer; `again` is the answer that it repeats.
export async function answer(body, again = null) {
	$("welcome")?.remove();
	const wait = make("span", { className: "wait", textContent: "Thinking …" });
	const bubble = make("div", { className: "bubble writing", dir: "auto" }, wait);
	const meta = make("div", { className: "meta" });
	const turn = make("article", { className: "theirs", ariaLabel: "Answer" }, bubble, meta);
	const prompt = make("div", { className: "bubble", dir: "auto", textContent: body.messages.at(-1).content });
	log.append(make("div", { className: "mine" }, prompt), turn);
	log.scrollTop = log.scrollHeight;
	const written = new Written(bubble, say);
	running = { id: null, abort: new AbortController(), isStopped: false, wait };
	figures.begin(budget(body));
	legend($("fates"), {});
	busy(true);
	waiting();
	const { chunk, error } = await receive(body, listener(written));
	running.abort.abort(); // also where it fell silent
	wrote();
	const isStopped = running.isStopped || Boolean(chunk?.hybrid_lm.cancelled);
	running = null;
	following(() => finish({ body, written, chunk, error, isStopped, again, bubble, meta, turn }));
	busy(false);
}

async function receive(body, on) {
	try {
		return { chunk: await ask(body, on, running.abort.signal), error: null };
	} catch (found) {
		if (running.isStopped) return { chunk: null, error: null };
		if (found instanceof ApiError) return { chunk: null, error: found.message };
		console.error(found);
		return { chunk: null, error: "The page could not show this answer." };
	}
}

function listener(written) {
	let isDrawn = true;
	const draw = () => {
		if (!isDrawn) return;
		isDrawn = false;
		requestAnimationFrame(() => {
			isDrawn = true;
			legend($("fates"), written.counts);
		});
	};
	return {
		id: (id) => (running.id = id),
		waiting: (text) => {
			const before = /waiting, (\d+) before/.exec(text)?.[1];
			running.waiting = before && (before === "0" ? "Next in the queue …" : `Waiting, ${before} before you …`);
			waiting();
		},
		token: (text, fate, token) => {
			wrote();
			following(() => written.token(text, fate, token));
			if (Number.isInteger(token)) figures.token(written.total);
			draw();
		},
		tentative: (text) => {
			wrote();
			following(() => written.tentative(text));
		},
		retract: (number) => written.retract(number),
		soFar: (counts) => figures.report(counts, written.total),
	};
}

function finish({ body, written, chunk, error, isStopped, again, bubble, meta, turn }) {
	written.end();
	bubble.classList.remove("writing");
	const { text } = written;
	const report = chunk?.hybrid_lm;
	const fates = report?.num_by_fate ?? written.counts;
	legend($("fates"), fates);
	figures.end(chunk);
	const isCut = chunk?.choices[0].finish_reason === "length";
	const end = error ? "failed" : isStopped ? "stopped" : isCut ? "cut off at the limit" : "complete";
	const entry = { prompt: body.messages.at(-1).content, body, text, chunk, error, seed: report?.seed ?? body.seed, end };
	answers.push(entry);
	results(answers, figures);
	json(entry);
	conversation = text ? [...body.messages, { role: "assistant", content: text }] : body.messages.slice(0, -1);
	if (!text && error) bubble.remove();
	else if (!text) bubble.append(make("span", { className: "wait", textContent: isStopped ? "Stopped before the first word" : "(no text)" }));
	if (error) turn.insertBefore(make("p", { className: "error", textContent: error + (text ? " The text above is what had arrived." : "") }), meta);
	meta.append(...summary(entry, again).map((one) => make("span", { textContent: one })), repeat(entry));
	const counts = Object.entries(fates).filter(([, number]) => number);
	say(error ? `The answer failed: ${error}` : `Answer ${end}. ${counts.map(([fate, number]) => `${number} ${fate}`).join(", ")}.`);
}

function summary({ text, chunk, seed, end }, again) {
	const report = chunk?.hybrid_lm;
	const items = report ? [`${count(report.num_tokens)} tokens`, `${count(report.num_uplinks)} uplinks`, `${bytes(report.bytes_up)} up`] : [];
	items.push(`seed ${seed}`);
	if (end !== "complete" && end !== "failed") items.push(end);
	if (report?.cloud_loss) items.push("the cloud was lost");
	if (again && end === "complete") items.push(again.text === text ? "✓ the same text again" : "another text than before");
	return items;
}

function repeat(entry) {
	const button = make("button", { type: "button", className: "quiet", textContent: entry.error ? "Try again with this seed" : "Again with this seed" });
	button.addEventListener("click", () => {
		if (!running) answer({ ...entry.body, seed: entry.seed }, entry.end === "complete" ? entry : null);
	});
	return button;
}

function busy(isBusy) {
	const hadFocus = [document.body, $("stop")].includes(document.activeElement);
	show($("stop"), isBusy);
	show($("send"), !isBusy);
	if (!isBusy && hadFocus) $("prompt").focus();
}

export async function stop() {
	if (!running) return;
	const { id, abort } = running;
	running.isStopped = true;
	if (!id) return abort.abort();
	setTimeout(() => abort.abort(), STOPPING);
	await request("hybrid/v1/cancel", { body: { id } }).catch(() => abort.abort());
}
