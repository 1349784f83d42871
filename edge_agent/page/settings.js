// The settings of an ask: what the fields say, and the request that they make.

import { agent } from "./agent.js";
import { $, put } from "./dom.js";

const KEEPS_A_RISK = "opportunistic";

const field = (id) => ($(id).value.trim() === "" ? undefined : Number($(id).value));

const usual = () => agent.facts?.scheme ?? agent.model?.scheme;

// Shows what is chosen, and which fields the scheme uses.
export function settings() {
	const scheme = $("scheme").value || usual();
	const hasRisk = scheme === KEEPS_A_RISK;
	$("risk").disabled = !hasRisk;
	$("risk").placeholder = hasRisk ? (agent.facts?.risk ?? "none") : "not used";
	const summary = agent.model?.summaries?.[scheme];
	put("summary", summary ? `${scheme}: ${summary}` : "");
	const named = { risk: hasRisk ? field("risk") : undefined };
	for (const id of ["temperature", "max_tokens", "seed"]) named[id] = field(id);
	const parts = Object.entries(named).filter(([, value]) => value !== undefined);
	put("chosen", [scheme, ...parts.map(([id, value]) => `${id.replace("max_", "")} ${value}`)].filter(Boolean).join(" · "));
}

// The body of a request for the answer to `prompt`, after the messages `before`.
export function body(prompt, before) {
	const own = { tentative: true };
	if ($("scheme").value) own.scheme = $("scheme").value;
	if (!$("risk").disabled && field("risk") !== undefined) own.risk = field("risk");
	return {
		model: agent.model?.id,
		messages: [...before, { role: "user", content: prompt }],
		stream: true,
		temperature: field("temperature"),
		max_tokens: field("max_tokens"),
		seed: field("seed") ?? crypto.getRandomValues(new Uint32Array(1))[0],
		hybrid_lm: own,
	};
}

// Whether the answer to a request measures its risk, and the budget that it then has, or null.
export function budget(request) {
	const measures = (request.hybrid_lm.scheme ?? usual()) === KEEPS_A_RISK;
	return { measures, budget: measures ? (request.hybrid_lm.risk ?? agent.facts?.risk ?? null) : null };
}
