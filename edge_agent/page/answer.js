// One answer as it is written: a span for each token, marked by its fate, and dim text that is not final yet.

import { make } from "./dom.js";

export const FATES = {
	local: "written on this device, never sent",
	verified: "checked by the target model and kept",
	corrected: "replaced by the target model",
	target: "written by the target model",
	unverified: "should have been checked, but the cloud was away",
	forced: "the only one that the required form allows",
};
export const TENTATIVE = "not final yet";
const ONCE = ["unverified", "forced"]; // in the legend only where they occur

export class Written {
	constructor(bubble, say) {
		this.bubble = bubble;
		this.text = "";
		this.counts = {};
		this.total = 0;
		this._say = say;
		this._unsaid = "";
		this._tentative = []; // spans, oldest first
		this._fallen = null; // the first text that was taken back since the last final token
	}

	token(text, fate, token) {
		const known = fate in FATES ? fate : "target";
		let span = this._tentative.shift();
		let replaced = null;
		if (span === undefined) {
			span = make("span");
			this.bubble.append(span);
			if (fate === "corrected") replaced = this._fallen;
			this._fallen = null;
		}
		span.className = `t ${known}`;
		span.textContent = text;
		if (Number.isInteger(token)) {
			span.dataset.token = token;
			this.counts[known] = (this.counts[known] ?? 0) + 1;
			this.total += 1;
		}
		span.dataset.fate = known;
		if (known === "corrected") {
			span.tabIndex = 0;
			if (replaced !== null) span.dataset.replaced = replaced;
			const was = replaced === null ? "" : `, was ${JSON.stringify(replaced)}`;
			span.append(make("span", { className: "vh", textContent: ` (corrected${was}) ` }));
		}
		if (!text && known !== "corrected") span.remove();
		this.text += text;
		this._speak(text);
	}

	tentative(text) {
		const span = make("span", { className: "t tentative", textContent: text });
		span.setAttribute("aria-hidden", "true");
		this.bubble.append(span);
		this._tentative.push(span);
	}

	retract(number) {
		const fallen = this._tentative.splice(Math.max(0, this._tentative.length - number));
		this._fallen = fallen.length ? fallen[0].textContent : null;
		for (const span of fallen) span.remove();
	}

	// Nothing more comes: what is not final is taken back.
	end() {
		this.retract(this._tentative.length);
		this._say(this._unsaid);
		this._unsaid = "";
	}

	_speak(text) {
		this._unsaid += text;
		const ends = [...this._unsaid.matchAll(/[.!?…]["'”)\]]*\s|\n/g)];
		if (!ends.length) return;
		const last = ends.at(-1);
		const length = last.index + last[0].length;
		this._say(this._unsaid.slice(0, length));
		this._unsaid = this._unsaid.slice(length);
	}
}

export function legend(list, counts) {
	list.replaceChildren();
	for (const [fate, meaning] of Object.entries(FATES)) {
		const found = counts[fate] ?? 0;
		if (!found && ONCE.includes(fate)) continue;
		const mark = make("span", { className: `t ${fate}`, textContent: fate });
		mark.dataset.tip = meaning;
		list.append(make("li", {}, mark, make("b", { textContent: found })));
	}
	const mark = make("span", { className: "t tentative", textContent: "tentative" });
	mark.dataset.tip = TENTATIVE;
	list.append(make("li", {}, mark));
}
