// The agent's HTTP API. Addresses are relative, so the page also works below a path of a proxy.

const KEY = "hybrid-lm-key";
const SILENCE = 45_000; // ms without a byte, not even a comment, after which a stream is given up

let askKey = async () => null;
let asking = null;

export function onKeyNeeded(ask) {
	askKey = ask;
}

export class ApiError extends Error {
	constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
		super(message);
		this.status = status;
		this.code = code;
		this.retryAfter = retryAfter;
	}
}

export async function request(path, { body, signal } = {}) {
	let wasWrong = false;
	for (;;) {
		const key = sessionStorage.getItem(KEY);
		const headers = key ? { Authorization: `Bearer ${key}` } : {};
		if (body !== undefined) headers["Content-Type"] = "application/json";
		let reply;
		try {
			const method = body === undefined ? "GET" : "POST";
			reply = await inTime(fetch(path, { method, headers, signal, cache: "no-store", body: body && JSON.stringify(body) }));
		} catch (error) {
			if (error.name === "AbortError" || error instanceof ApiError) throw error;
			throw new ApiError("The agent cannot be reached.", { code: "unreachable" });
		}
		if (reply.status !== 401) {
			if (!reply.ok) throw await problem(reply);
			return reply;
		}
		if (sessionStorage.getItem(KEY) === key) {
			wasWrong = key !== null;
			sessionStorage.removeItem(KEY);
			asking ??= askKey(wasWrong).finally(() => (asking = null)); // one dialog for all requests
			const given = await asking;
			if (!given) throw new ApiError("A key is needed.", { status: 401 });
			sessionStorage.setItem(KEY, given);
		}
	}
}

async function problem(reply) {
	const found = await reply.json().catch(() => null);
	const { message, code } = found?.error ?? {};
	return new ApiError(message || `The agent answered ${reply.status}.`, {
		status: reply.status,
		code: code ?? null,
		retryAfter: Number(reply.headers.get("Retry-After")) || null,
	});
}

export async function get(path) {
	return (await request(path)).json();
}

// Server-sent events of a reply: yields {event, data} and {comment}.
export async function* events(reply) {
	const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	try {
		for (;;) {
			const { value, done } = await inTime(reader.read());
			if (done) return;
			rest += value;
			const blocks = rest.split("\n\n");
			rest = blocks.pop();
			for (const block of blocks) yield parse(block);
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}

function parse(block) {
	const found = { event: "message", data: "" };
	for (const line of block.split("\n")) {
		if (line.startsWith(":")) found.comment = line.slice(1).trim();
		else if (line.startsWith("event: ")) found.event = line.slice(7);
		else if (line.startsWith("data: ")) found.data += line.slice(6);
	}
	return found;
}

async function inTime(promise) {
	let timer;
	const late = new Promise((_, reject) => {
		timer = setTimeout(() => reject(new ApiError("The agent no longer answers.", { code: "silent" })), SILENCE);
	});
	try {
		return await Promise.race([promise, late]);
	} finally {
		clearTimeout(timer);
	}
}

// One answer: calls on.token(text, fate, token), on.tentative(text), on.retract(n), on.soFar(counts), on.waiting(text), on.id(id).
// Returns the last chunk, with finish reason, timings and report; raises ApiError where there is none.
export async function ask(body, on, signal) {
	let last = null;
	try {
		const reply = await request("v1/chat/completions", { body, signal });
		for await (const { data, comment } of events(reply)) {
			if (comment) on.waiting(comment);
			if (!data) continue;
			if (data === "[DONE]") {
				if (last === null) break;
				return last;
			}
			const chunk = JSON.parse(data);
			if (chunk.error) throw new ApiError(chunk.error.message, { code: chunk.error.code });
			on.id(chunk.id);
			const [choice] = chunk.choices ?? [];
			const ours = chunk.hybrid_lm ?? {};
			if (choice?.finish_reason) last = chunk;
			else if (choice?.delta?.content !== undefined && ours.fate) {
				on.token(choice.delta.content, ours.fate, ours.token);
				if (ours.so_far) on.soFar(ours.so_far);
			} else if (ours.tentative !== undefined) on.tentative(ours.tentative);
			else if (ours.retract) on.retract(ours.retract);
		}
	} catch (error) {
		if (error instanceof ApiError || error.name === "AbortError") throw error;
		if (last !== null) return last;
	}
	throw new ApiError("The connection to the agent broke off.", { code: "unreachable" });
}

// Calls on.status(facts) for each status, on.lost(seconds, error) when the stream ends, for ever; returns retry().
export function watch(on) {
	let delay = 0.5;
	let wake = () => {};
	(async () => {
		for (;;) {
			let failure = null;
			try {
				for await (const { event, data } of events(await request("hybrid/v1/events"))) {
					delay = 0.5;
					if (event === "status") on.status(JSON.parse(data));
					if (event === "bye") break;
				}
			} catch (error) {
				failure = error;
			}
			const seconds = delay * (0.75 + Math.random() / 2);
			on.lost(seconds, failure);
			await new Promise((resolve) => {
				wake = resolve;
				if (failure?.status !== 401) setTimeout(resolve, 1000 * seconds); // else a person decides when
			});
			delay = Math.min(15, 2 * delay);
		}
	})();
	const retry = () => {
		delay = 0.5;
		wake();
	};
	addEventListener("online", retry);
	return retry;
}
