// The other views: the pool of workers, the results as numbers, and the last answer as JSON.

import { ApiError, get } from "./api.js";
import { FATES as MEANINGS } from "./answer.js";
import { $, bytes, count, duration, make, measure, number, put, risk, show, terms } from "./dom.js";

function table(id, heads, rows) {
	const region = $(id).querySelector(".scroll");
	const [head, body] = region.querySelector("table").children;
	const cell = (tag, [text, kind], value) =>
		make(tag, { className: kind ?? "", textContent: value ?? text, title: kind?.includes("long") ? (value ?? "") : "" });
	head.replaceChildren(make("tr", {}, ...heads.map((one) => Object.assign(cell("th", one), { scope: "col" }))));
	body.replaceChildren(...rows.map((row) => make("tr", {}, ...row.map((value, n) => cell("td", heads[n], value)))));
	show(region, rows.length > 0);
}

const POOL = [["Worker", "text"], ["State", "text"], ["Model", "text long"], ["Sessions"], ["Queue"], ["Batch"], ["Tokens/s"], ["Longest text"], ["Up for"], ["Seen"], ["Version", "text"]];

export async function pool() {
	try {
		const { pool: name, workers } = await get("hybrid/v1/pool");
		put("pool-name", name);
		put("pool-note", workers.length ? "" : "No worker of this pool is known to the broker.");
		show($("pool-note"), !workers.length);
		table("pool", POOL, workers.map((one) => [
			one.worker, one.state, one.model, count(one.sessions), count(one.queue), number(one.batch_size),
			number(one.tokens_per_second), one.max_context ? count(one.max_context) : "–", duration(one.uptime),
			`${duration(Math.max(1, Math.round(one.seconds_ago)))} ago`, one.version,
		]));
	} catch (error) {
		if (!(error instanceof ApiError)) throw error;
		show($("pool-note"), true);
		put("pool-note", error.message);
		table("pool", POOL, []);
	}
}

const FATES = Object.keys(MEANINGS);
const RESULTS = [["#"], ["Prompt", "text long"], ["Scheme", "text"], ["Tokens"], ...FATES.map((one) => [one]), ["Uplinks"], ["Up"], ["Down"], ["HLM"], ["Tokens/s"], ["Accepted"], ["Risk"], ["Round trip"], ["Worker", "text"], ["Seed"], ["End", "text"]];

export function results(answers, figures) {
	show($("results-note"), !answers.length);
	table("results", RESULTS, answers.map(({ prompt, end, chunk, seed }, n) => {
		const report = chunk?.hybrid_lm;
		if (!report) return [n + 1, prompt, ...Array(RESULTS.length - 4).fill("–"), seed, end];
		return [
			n + 1, prompt, report.scheme, count(report.num_tokens),
			...FATES.map((one) => count(report.num_by_fate[one] ?? 0)),
			count(report.num_uplinks), bytes(report.bytes_up), bytes(report.bytes_down), bytes(figures.hlm(report.num_tokens)),
			number(report.num_tokens / Math.max(report.seconds, 1e-9)), measure(report.acceptance_rate, "%", 100),
			risk(report.measured_risk), measure(report.round_trip, "ms", 1000),
			report.worker ?? "–", report.seed, end,
		];
	}));
}

export function totals(stats, figures) {
	const hlm = figures.hlm(stats.tokens);
	terms("totals", [
		["Answers", count(stats.answers)], ["Tokens", count(stats.tokens)], ["Uplinks", count(stats.uplinks)],
		["Bytes up", bytes(stats.bytes_up)], ["Bytes down", bytes(stats.bytes_down)], ["HLM would send", bytes(hlm)],
		["Accepted", measure(stats.acceptance, "%", 100)], ["Measured risk", risk(stats.measured_risk)],
		["Round trip", measure(stats.rtt_ms, "ms")], ["Last speed", measure(stats.tokens_per_second, "tok/s")],
	]);
}

// The JSON in an answer: all of it, or its first line.
export function parsed(text) {
	for (const part of [text, text.split("\n", 1)[0]]) {
		try {
			const value = JSON.parse(part);
			if (typeof value === "object" && value !== null) return { value, isWhole: part === text };
		} catch {
			// not JSON
		}
	}
	return null;
}

export function json({ body, chunk, text, error }) {
	const found = parsed(text);
	const note = $("json-note");
	note.replaceChildren();
	const fits = body.response_format?.json_schema && chunk?.choices[0].finish_reason === "stop" && " that fits the schema";
	if (found) note.append(make("span", { className: "tick", textContent: "✓ Valid JSON" }), fits || (found.isWhole ? "" : " in the first line"));
	else note.append("The answer is plain text.");
	show($("json-parsed"), found !== null);
	put("json-parsed", found ? JSON.stringify(found.value, null, 2) : "");
	put("json-id", chunk?.id ?? "");
	show($("json-raw"), true);
	const answer = chunk ? { id: chunk.id, model: chunk.model, text, finish_reason: chunk.choices[0].finish_reason, timings: chunk.timings, hybrid_lm: chunk.hybrid_lm } : { text, error };
	put("json-raw", JSON.stringify({ request: body, answer }, null, 2));
}
