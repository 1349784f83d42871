"""The worker in the cloud: it verifies drafts with the target model. Its state is disposable."""

from common.process.telemetry import decline_telemetry

decline_telemetry()
