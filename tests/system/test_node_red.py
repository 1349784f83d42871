"""The example flow in a real Node-RED, with a real broker, worker and agent.

`make test-node-red` installs Node-RED and names its folder in NODE_RED; other runs skip this.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.node_red import NodeRed
from tests.support.serving import ServingAgent
from tests.support.waiting import until

INSTALLED = Path(os.environ.get("NODE_RED", "no such folder")).absolute()
PROMPT = "turn on the kitchen light"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (INSTALLED / ".installed").exists(), reason="needs Node-RED: make test-node-red"),
]


@pytest.fixture(name="flow", scope="module")
def flow_beside_an_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeRed, ServingAgent]]:
    with (
        LocalBroker() as broker,
        LocalWorker(broker.url, "--model", "demo"),
        ServingAgent("--broker", broker.url, "--device", "pi", "--temperature", "0") as agent,
        NodeRed(INSTALLED, tmp_path_factory.mktemp("node-red"), broker.port, device="pi") as flow,
    ):
        yield flow, agent


def test_a_button_gets_an_answer(flow: tuple[NodeRed, ServingAgent]) -> None:
    node_red, _ = flow
    until(lambda: "[debug:online or offline] online" in node_red.log, lambda: node_red.log)
    assert "[debug:answer]" not in node_red.log  # no old answer starts a flow
    node_red.press("hlm-inject")
    until(lambda: "the kitchen light is on" in node_red.log, lambda: node_red.log)


def test_a_program_gets_its_own_answer(flow: tuple[NodeRed, ServingAgent]) -> None:
    node_red, _ = flow
    status, answer = node_red.ask(PROMPT)
    assert (status, answer["error"], answer["finish_reason"]) == (200, None, "stop")
    assert "the kitchen light is on" in answer["text"]


def test_a_refused_ask_is_an_error_with_its_reason(flow: tuple[NodeRed, ServingAgent]) -> None:
    node_red, _ = flow
    status, answer = node_red.ask(" ")
    assert status == 502
    assert "empty" in answer["error"]


def test_the_flow_goes_on_after_the_agent_restarts(flow: tuple[NodeRed, ServingAgent]) -> None:
    node_red, agent = flow
    assert agent.stop() == 0
    until(lambda: "[debug:online or offline] offline" in node_red.log, lambda: node_red.log)
    agent.start()
    status, answer = node_red.ask(PROMPT)
    assert (status, answer["error"]) == (200, None)
