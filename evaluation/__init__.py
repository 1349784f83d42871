"""The researcher's side, above both ends: measurements, simulations, the demo and the demo pair's recipe."""

from common.process.telemetry import decline_telemetry

decline_telemetry()
