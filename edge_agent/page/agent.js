// The agent as it reports itself: its model, its status, whether it can be reached, and the key that it asks for.

import { get, onKeyNeeded, watch } from "./api.js";
import { $, make, put, show } from "./dom.js";
import { figures } from "./figures.js";
import { totals } from "./sheets.js";

// `model` is what /v1/models describes, `facts` the last status; null while unknown
export const agent = { model: null, facts: null };

// Watches the agent for ever; `changed` is called after each status, `described` when its model is known.
export function follow(changed, described) {
	onKeyNeeded(askKey);
	const lost = (seconds, error) => onLost(seconds, error);
	const status = (facts) => {
		const isFirst = agent.facts === null;
		onStatus(facts);
		changed();
		if (isFirst) describe().then(described, () => {});
	};
	const retry = watch({ status, lost });
	$("banner-button").addEventListener("click", retry);
}

async function askKey(wasWrong) {
	const dialog = $("key-dialog");
	$("key").value = "";
	show($("key-error"), wasWrong);
	put("key-error", "This is not the key.");
	dialog.oncancel = () => ($("key").value = "");
	dialog.showModal();
	await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
	return $("key").value.trim();
}

async function describe() {
	const [{ data }, props] = await Promise.all([get("v1/models"), get("props")]);
	const model = { id: data[0].id, ...data[0].hybrid_lm };
	const select = $("scheme");
	const chosen = select.value;
	const options = model.schemes.map((one) => make("option", { value: one, textContent: one }));
	select.replaceChildren(make("option", { value: "", textContent: "agent’s own" }), ...options);
	select.value = model.schemes.includes(chosen) ? chosen : "";
	const { params } = props.default_generation_settings;
	$("temperature").placeholder = params.temperature ?? "model’s";
	$("max_tokens").placeholder = params.n_predict ?? "agent’s";
	figures.model(model.vocab_size);
	const isDemo = model.draft === "demo";
	show($("examples"), isDemo);
	if (isDemo && agent.model === null) $("remembers").checked = false; // it was trained on single commands
	agent.model = model;
}

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
	agent.facts = status;
	figures.status(status);
	totals(status.stats, figures);
	if (status.cloud) pill("good", status.worker ? `Cloud · ${status.worker}` : "Cloud");
	else pill(status.needs_cloud ? "warn" : "good", status.needs_cloud ? "No cloud" : "On this device");
	if (status.needs_cloud && !status.cloud) {
		const isLocal = status.on_cloud_loss === "local";
		banner(isLocal ? "The cloud is away: the draft model answers alone, and its text is marked as unverified." : "The cloud is away: no worker can be reached. Answers that need it fail until it is back.");
	} else banner(null);
}

function onLost(seconds, error) {
	agent.facts = null;
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
