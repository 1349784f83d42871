"""The agent as a service: many asks at once over one agent, whichever way they come in."""
