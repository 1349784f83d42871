"""The agent over HTTP: OpenAI's API, Ollama's, status and events, and the page. Loaded only by `serve`."""
