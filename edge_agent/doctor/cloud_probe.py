"""Ask the broker and the pool: one connection with one small answer, and one that reads the workers' status.

Law: it takes at most about ANSWER_SECONDS, and costs a worker one short prompt.
"""

import dataclasses
import time

from common.link import LinkError
from common.link.values import days_left
from common.process.pool_status import pool_statuses
from common.process.settings import SettingsError
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.doctor.facts import Cloud
from edge_agent.errors import AgentError
from edge_agent.generation.drafting import NextTokenModel
from edge_agent.session.settings import OnCloudLoss

ANSWER_SECONDS = 5.0
_NUM_TOKENS = 4
_PROMPT = "hello"


async def examine_cloud(config: AgentConfig, model: NextTokenModel | None) -> Cloud:
    """The broker, the workers, and the round trip of a draft if there is a model to draft with."""
    cloud = Cloud(
        config.broker,
        config.pool,
        encrypted=config.broker.startswith("mqtts:"),
        is_optional=config.on_cloud_loss == OnCloudLoss.LOCAL.value and config.chosen_scheme.drafts,
    )
    if model is not None:
        cloud = await _with_round_trip(cloud, _short(config), model)
    if cloud.problem is None:
        try:
            cloud = dataclasses.replace(cloud, workers=await pool_statuses(config))
        except (LinkError, SettingsError, AgentError) as error:
            if model is None:
                cloud = dataclasses.replace(cloud, problem=str(error))
    return cloud


async def _with_round_trip(cloud: Cloud, config: AgentConfig, model: NextTokenModel) -> Cloud:
    try:
        async with EdgeAgent.open(config, model=model) as agent:
            generation = agent.generate(_PROMPT, seed=0)
            async for _ in generation:
                pass
            days = days_left(agent.link_statistics.certificates, time.time())
            failure = generation.failure and agent.explain(generation.failure)
            trip = generation.session.round_trip.smoothed
    except AgentError as error:
        return dataclasses.replace(cloud, problem=str(error))
    return dataclasses.replace(cloud, failure=failure, certificate_days=days, round_trip=trip)


def _short(config: AgentConfig) -> AgentConfig:
    """The settings for one small answer that a worker verifies."""
    return dataclasses.replace(
        config,
        scheme="lossless",
        threshold=None,
        risk=None,
        audit=None,
        rejection_cost=0.0,
        calibration=None,
        max_ids=None,
        byte_price=None,
        window=1,
        block_length=None,
        stop=(),
        metrics_port=0,
        max_tokens=_NUM_TOKENS,
        on_cloud_loss=OnCloudLoss.FAIL.value,
        cloud_timeout=min(config.cloud_timeout, ANSWER_SECONDS),
    )
