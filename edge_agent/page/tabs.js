// The tabs, and what is unfolded where there is room for it.

import { $, show } from "./dom.js";
import { pool } from "./sheets.js";

const POLL = 5000; // ms between two looks at the pool
const WIDE = "(min-width: 60.01rem)";
const UNFOLDED = { figures: WIDE, settings: `${WIDE} and (min-height: 54rem)` };

export function tabs() {
	const all = [...document.querySelectorAll("[role=tab]")];
	let polling = 0;

	function open(tab) {
		for (const one of all) {
			const isOpen = one === tab;
			one.setAttribute("aria-selected", isOpen);
			one.tabIndex = isOpen ? 0 : -1;
			show($(one.getAttribute("aria-controls")), isOpen);
		}
		clearInterval(polling);
		if (tab.id !== "tab-pool") return;
		pool();
		polling = setInterval(() => !document.hidden && pool(), POLL);
	}

	for (const [number, tab] of all.entries()) {
		tab.addEventListener("click", () => open(tab));
		tab.addEventListener("keydown", (event) => {
			const to = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: all.length - 1 }[event.key];
			if (to === undefined) return;
			event.preventDefault();
			const next = all.at(to % all.length);
			open(next);
			next.focus();
		});
	}
}

export function unfold() {
	for (const [id, query] of Object.entries(UNFOLDED)) {
		const media = matchMedia(query);
		const fit = () => ($(id).open = media.matches);
		media.addEventListener("change", fit);
		fit();
	}
}
