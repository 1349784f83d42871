"""Ask a running `edge-agent serve` with OpenAI's library; each token is marked by where it came from.

    pip install openai
    edge-agent serve &
    python examples/openai_client.py "turn on the kitchen light"

EDGE_AGENT_URL and EDGE_AGENT_HTTP_KEY replace http://127.0.0.1:8080 and no key.
"""

import os
import sys
from typing import Any

from openai import APIError, OpenAI


def main(prompt: str) -> int:
    """Stream one answer; returns 1 when it breaks off."""
    url = os.environ.get("EDGE_AGENT_URL", "http://127.0.0.1:8080")
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("EDGE_AGENT_HTTP_KEY", "none"))
    try:
        stream = client.chat.completions.create(
            model="hybrid-lm",
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            extra_body={"hybrid_lm": {"scheme": "lossless"}},
        )
        report: dict[str, Any] = {}
        for chunk in stream:
            report = (chunk.model_extra or {}).get("hybrid_lm", report)
            for choice in chunk.choices:
                print(choice.delta.content or "", end="", flush=True)
    except APIError as error:  # also in the middle of an answer
        print(f"\n{error.message}", file=sys.stderr)
        return 1
    print()
    fates = ", ".join(f"{count} {fate}" for fate, count in report["num_by_fate"].items() if count)
    print(f"{fates}; {report['bytes_up']} bytes up; seed {report['seed']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "turn on the kitchen light"))
