// Short explanations on hover and on focus: what a mark means, what was replaced, how a figure is computed.

import { $, make } from "./dom.js";
import { FATES } from "./answer.js";

export function tips() {
	const tip = $("tip");
	let shown = null;

	function open(target) {
		const place = target?.closest?.("[data-tip], [data-fate]") ?? null;
		if (place === shown) return;
		shown = place;
		tip.hidden = !place;
		if (!place) return;
		tip.replaceChildren(...content(place));
		move(place);
	}

	function move(place) {
		const { left, top, bottom, width } = place.getBoundingClientRect();
		const half = tip.offsetWidth / 2;
		const x = Math.min(innerWidth - half - 8, Math.max(half + 8, left + width / 2));
		const above = top - tip.offsetHeight - 8;
		tip.style.left = `${x - half}px`;
		tip.style.top = `${above > 4 ? above : bottom + 8}px`;
	}

	document.addEventListener("pointerover", (event) => open(event.target));
	document.addEventListener("focusin", (event) => open(event.target));
	document.addEventListener("focusout", () => open(null));
	document.addEventListener("scroll", () => (shown !== null && shown === document.activeElement ? move(shown) : open(null)), true);
	document.addEventListener("keydown", (event) => event.key === "Escape" && open(null));
}

function content(place) {
	if (place.dataset.tip) return [place.dataset.tip];
	const { fate, replaced, token } = place.dataset;
	const lines = [make("b", { textContent: fate }), ` · ${FATES[fate]}`];
	if (replaced !== undefined) lines.push("\nthe draft was ", make("del", { textContent: visible(replaced) }));
	if (token !== undefined) lines.push(`\ntoken ${token}`);
	return lines;
}

const visible = (text) => (text.trim() ? text : JSON.stringify(text));
