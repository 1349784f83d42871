// The page: one conversation with the agent that serves it. It keeps nothing but the key.

import { follow } from "./agent.js";
import { legend } from "./answer.js";
import { answer, conversation, forget, isRunning, keepAtEnd, stop, waiting } from "./chat.js";
import { $, make } from "./dom.js";
import { body, settings } from "./settings.js";
import { tabs, unfold } from "./tabs.js";
import { tips } from "./tips.js";

const EXAMPLES = [
	"turn on the kitchen light",
	"I need the telly in the dining room on channel 49 at quarter past 11 tonight",
	"play techno in the bedroom, then close the garage window",
];

$("composer").addEventListener("submit", (event) => {
	event.preventDefault();
	const prompt = $("prompt").value;
	if (isRunning() || !prompt.trim()) return $("prompt").focus();
	$("prompt").value = "";
	answer(body(prompt, $("remembers").checked ? conversation : []));
});
$("prompt").addEventListener("keydown", (event) => {
	if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
	event.preventDefault();
	$("composer").requestSubmit();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && !$("key-dialog").open && stop());
$("stop").addEventListener("click", stop);
$("settings").addEventListener("input", settings);
$("settings").addEventListener("invalid", () => ($("settings").open = true), true); // the browser says what is wrong
$("clear").addEventListener("click", () => {
	if (isRunning()) return;
	forget();
	$("prompt").focus();
});
$("marks").addEventListener("change", () => $("log").classList.toggle("unmarked", !$("marks").checked));
for (const text of EXAMPLES) {
	const button = make("button", { type: "button", textContent: text });
	button.addEventListener("click", () => {
		$("prompt").value = text;
		$("composer").requestSubmit();
	});
	$("examples").append(button);
}

tabs();
unfold();
tips();
keepAtEnd();
legend($("fates"), {});
settings();
follow(() => (settings(), waiting()), settings);
