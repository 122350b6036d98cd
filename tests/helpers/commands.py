"""The training command in its own process, on tiny data."""

import os
import subprocess
import sys

from tests.helpers.paths import ROOT

TINY = [
    "--config.model.width=4",
    "--config.model.num_blocks=1",
    "--config.data.validation_sequences=scene_v",
    "--config.data.resize=16",
    "--config.evaluation.protocols=('16',)",
    "--config.stages[0].crop=0",
    "--config.stages[1].crop=8",
    "--config.data.batch_size=2",
    "--config.evaluation.batch_size=2",
    "--config.log.every_steps=1",
]


def command(*arguments):
    return [sys.executable, "-m", "jaxdeblur.main", *map(str, arguments)]


def environment(devices):
    """Return the environment of a subprocess with simulated devices; other XLA flags of the session are kept."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
    return {**os.environ, "XLA_FLAGS": " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"])}


def run(*arguments, devices=2):
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment(devices)
    )


def tiny(root, workdir, *more):
    config = ["--config", "configs/transformnet.py:smoke", f"--config.data.root={root}", "--workdir", workdir]
    return [*config, *TINY, *more]


def assert_clear_error(result, *messages):
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    for message in messages:
        assert message in result.stderr
