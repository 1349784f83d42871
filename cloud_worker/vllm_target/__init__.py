"""The target model behind a vLLM server: exact verification over its public HTTP API, without torch."""
