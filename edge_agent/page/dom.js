// Small helpers. Law: text from a model, a person or the agent reaches the page as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
	const element = Object.assign(document.createElement(tag), properties);
	element.append(...children);
	return element;
}

export function show(element, isShown) {
	element.hidden = !isShown;
}

// Fills a <dl>.
export function terms(id, pairs) {
	$(id).replaceChildren(...pairs.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value ?? "–" }))));
}

export function put(id, text) {
	const element = $(id);
	if (element.textContent !== text) element.textContent = text;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
	return isNumber(value) ? whole.format(value) : "–";
}

export function number(value) {
	return !isNumber(value) ? "–" : Math.abs(value) >= 1000 ? whole.format(value) : short.format(value);
}

export function bytes(value) {
	if (!isNumber(value)) return "–";
	const units = ["B", "kB", "MB", "GB", "TB"];
	let unit = 0;
	while (value >= 999.5 && unit < units.length - 1) {
		value /= 1000;
		unit += 1;
	}
	return `${short.format(value)} ${units[unit]}`;
}

export function measure(value, unit, factor = 1) {
	return isNumber(value) ? `${number(factor * value)} ${unit}` : "–";
}

export function risk(value) {
	return isNumber(value) ? value.toFixed(value !== 0 && value < 0.001 ? 5 : 4) : "–";
}

export function duration(seconds) {
	if (!isNumber(seconds)) return "–";
	if (seconds < 1) return `${whole.format(1000 * seconds)} ms`;
	if (seconds < 60) return `${(seconds < 10 ? short : whole).format(seconds)} s`;
	if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
	if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
	return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
