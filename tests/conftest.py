"""What all tests share: fixtures with real models and a real broker, and one thread for each process."""

import os
from importlib.util import find_spec

from hypothesis import HealthCheck, settings

from common.process.telemetry import decline_telemetry

decline_telemetry()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

pytest_plugins = ["tests.support.broker_fixtures", "tests.support.device_collection"]
if find_spec("torch"):  # a device has none
    pytest_plugins.append("tests.support.model_fixtures")

# machines are noisy: no test fails because it was slow
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")
