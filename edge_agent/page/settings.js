// The settings of an ask: what the fields say, and the request that they make.

import { agent } from "./agent.js";
import { $, put, show } from "./dom.js";

const KEEPS_A_RISK = "opportunistic";

const field = (id) => ($(id).value.trim() === "" ? undefined : Number($(id).value));

const usual = () => agent.facts?.scheme ?? agent.model?.scheme;

function schema() {
	try {
		return JSON.parse($("schema").value);
	} catch {
		return null;
	}
}

// Shows what is chosen, and which fields the scheme uses.
export function settings() {
	const scheme = $("scheme").value || usual();
	const hasRisk = scheme === KEEPS_A_RISK;
	$("risk").disabled = !hasRisk;
	$("risk").placeholder = hasRisk ? (agent.facts?.risk ?? "none") : "not used";
	const form = $("format").value;
	const isSchema = form === "json_schema";
	show($("schema").parentNode, isSchema);
	$("schema").setCustomValidity(isSchema && !schema() ? "This is not a JSON schema." : "");
	const summary = agent.model?.summaries?.[scheme];
	put("summary", summary ? `${scheme}: ${summary}` : "");
	const given = ["risk", "temperature", "max_tokens", "seed"].filter((id) => !$(id).disabled && field(id) !== undefined);
	const parts = given.map((id) => `${id.replace("max_", "")} ${field(id)}`);
	put("chosen", [scheme, form && $("format").selectedOptions[0].text, ...parts].filter(Boolean).join(" · "));
}

// The body of a request for the answer to `prompt`, after the messages `before`.
export function body(prompt, before) {
	const own = { tentative: true };
	const type = $("format").value || undefined;
	if ($("scheme").value) own.scheme = $("scheme").value;
	if (!$("risk").disabled && field("risk") !== undefined) own.risk = field("risk");
	return {
		model: agent.model?.id,
		messages: [...before, { role: "user", content: prompt }],
		stream: true,
		temperature: field("temperature"),
		max_tokens: field("max_tokens"),
		seed: field("seed") ?? crypto.getRandomValues(new Uint32Array(1))[0],
		response_format: type && { type, json_schema: type === "json_schema" ? { schema: schema() } : undefined },
		hybrid_lm: own,
	};
}

// Whether the answer to a request measures its risk, and the budget that it then has, or null.
export function budget(request) {
	const measures = (request.hybrid_lm.scheme ?? usual()) === KEEPS_A_RISK;
	return { measures, budget: measures ? (request.hybrid_lm.risk ?? agent.facts?.risk ?? null) : null };
}
