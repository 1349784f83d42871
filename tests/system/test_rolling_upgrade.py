"""Workers of the last release are replaced by those of the working tree while devices generate."""

import subprocess
import sys

import pytest

from benchmarks.rolling_upgrade.releases import LAST_RELEASE, ROOT

has_history = (
    subprocess.run(["git", "cat-file", "-e", LAST_RELEASE], cwd=ROOT, capture_output=True).returncode == 0
)


@pytest.mark.slow
@pytest.mark.skipif(not has_history, reason="the last release is not in this repository")
def test_nothing_is_lost_when_workers_of_the_last_release_are_replaced_under_load() -> None:
    command = [sys.executable, "-m", "benchmarks.rolling_upgrade", "--workers", "2", "--devices", "4"]
    done = subprocess.run([*command, "--prompts", "4"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 texts changed, 0 prompts without an answer, 0 errors" in done.stdout
