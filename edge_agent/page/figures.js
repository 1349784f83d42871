// The live figures: of the answer that is written or was written last, and of the agent.

import { $, bytes, count, duration, isNumber, number, put, risk, show, terms } from "./dom.js";

const WINDOW = 3000; // ms over which the speed is measured while an answer is written
const POINTS = 60;

class Figures {
	constructor() {
		this._trips = [];
		this._arrivals = [];
		this._vocab = null;
		this._running = null;
	}

	// HLM sends one float16 for each id of the vocabulary with each token.
	hlm(tokens) {
		return this._vocab === null ? null : 2 * this._vocab * tokens;
	}

	model(vocabSize) {
		if (!isNumber(vocabSize)) return;
		this._vocab = vocabSize;
		const each = `2 bytes × ${count(vocabSize)} ids of the vocabulary = ${bytes(2 * vocabSize)}`;
		const text = `HLM sends the whole distribution with every token, as float16: ${each} per token. Headers are not counted.`;
		$("hlm-hint").dataset.tip = text;
		$("hlm-hint").setAttribute("aria-label", text);
	}

	begin({ budget, measures }) {
		this._running = { began: performance.now(), budget, measures };
		this._arrivals = [];
		for (const id of ["f-speed", "f-uplinks", "f-up", "f-down", "f-hlm", "f-risk"]) put(id, "–");
		put("f-tokens", "Waiting for the first token");
		show($("f-saved"), false);
		this._risk(null, budget, measures ? "Nothing measured yet" : "");
	}

	// What a running or a whole answer has sent, received and measured.
	report(report, tokens) {
		const { budget, measures } = this._running;
		this._sent(report.num_uplinks, report.bytes_up, report.bytes_down, tokens);
		if (isNumber(report.round_trip)) this._trip(1000 * report.round_trip);
		const measured = measures ? `from ${count(report.num_measured)} of ${count(report.num_skipped)} skipped tokens` : "";
		this._risk(report.measured_risk, budget, measured, report.scheme);
	}

	token(total) {
		const now = performance.now();
		this._arrivals.push(now);
		while (this._arrivals[0] < now - WINDOW) this._arrivals.shift();
		const seconds = (now - (this._arrivals[0] ?? now)) / 1000;
		if (seconds > 0.2) put("f-speed", number((this._arrivals.length - 1) / seconds));
		put("f-tokens", `${count(total)} tokens in ${duration((now - this._running.began) / 1000)}`);
		put("f-hlm", bytes(this.hlm(total)));
		put("brief", `${count(total)} tokens`);
	}

	end(chunk) {
		if (!chunk) return;
		const report = chunk.hybrid_lm;
		const speed = report.num_tokens / Math.max(report.seconds, 1e-9);
		put("f-speed", number(speed));
		put("f-tokens", `${count(report.num_tokens)} tokens in ${duration(report.seconds)}`);
		this.report(report, report.num_tokens);
		this._running = null;
		put("brief", `${number(speed)} tokens/s · ${count(report.num_uplinks)} uplinks · ${bytes(report.bytes_up)} up`);
	}

	status(facts) {
		const { stats } = facts;
		terms("f-agent", [
			["Device", facts.device],
			["Model", facts.model],
			["Cloud", facts.cloud ? "connected" : facts.needs_cloud ? "away" : "not used"],
			["Worker", facts.worker],
			["Queue", `${count(facts.waiting)} of ${count(facts.max_waiting)}${facts.busy ? ", busy" : ""}`],
			["Version", facts.version],
		]);
		if (isNumber(stats.rtt_ms)) this._trip(stats.rtt_ms);
	}

	_sent(uplinks, up, down, tokens) {
		const whole = this.hlm(tokens);
		put("f-uplinks", count(uplinks));
		put("f-up", bytes(up));
		put("f-down", bytes(down));
		put("f-hlm", bytes(whole));
		const saves = whole !== null && tokens > 0 && whole > up;
		show($("f-saved"), saves);
		if (saves) put("f-saved", up ? `${number(whole / up)} times less than HLM` : "Nothing was sent");
	}

	_risk(measured, budget, note, scheme) {
		const isKnown = isNumber(measured);
		put("f-risk", isKnown ? risk(measured) : "–");
		put("f-budget", isNumber(budget) ? `of ${number(budget)} per token` : isKnown ? "per token" : "");
		const exact = ["lossless", "coupled", "auto", "hlm", "llm"].includes(scheme);
		put("f-risk-note", isKnown || !scheme ? note : exact ? `${scheme} keeps the target model’s distribution` : note ? "No skipped token was measured" : `${scheme} does not measure it`);
		const bar = $("bar");
		show(bar, isNumber(budget) && budget > 0);
		if (bar.hidden) return;
		const [fill, mark] = bar.children;
		const end = 2 * budget;
		fill.style.width = `${(100 * Math.min(measured ?? 0, end)) / end}%`;
		mark.style.left = "50%";
		bar.classList.toggle("over", isKnown && measured > budget);
		bar.setAttribute("aria-valuemax", end);
		bar.setAttribute("aria-valuenow", Math.min(measured ?? 0, end));
		bar.setAttribute("aria-valuetext", isKnown ? `${risk(measured)}, budget ${budget}` : `not measured yet, budget ${budget}`);
	}

	_trip(milliseconds) {
		if (milliseconds === this._trips.at(-1)) return;
		this._trips.push(milliseconds);
		this._trips.splice(0, this._trips.length - POINTS);
		put("f-rtt", number(milliseconds));
		const most = Math.max(...this._trips, 1) * 1.1;
		const step = 240 / Math.max(1, this._trips.length - 1);
		const points = this._trips.map((one, n) => `${(n * step).toFixed(1)},${(38 - (36 * one) / most).toFixed(1)}`);
		if (points.length === 1) points.push(`240,${points[0].split(",")[1]}`);
		const [area, line] = $("spark").children;
		line.setAttribute("points", points.join(" "));
		area.setAttribute("points", `0,40 ${points.join(" ")} 240,40`);
		const least = Math.min(...this._trips);
		$("spark").setAttribute("aria-label", `Last ${this._trips.length} round trips: ${number(least)} to ${number(most / 1.1)} ms`);
	}
}

export const figures = new Figures();
