"""The GPU check: its plan names what exists, a failure or hang costs one check only, and all checks run on a CPU."""

import json
import math
import os
import subprocess
import sys
import time

import gpu_check
import gpu_check_items
import jax
import pytest
from gpu_check import NETWORKS, Session, Task

from jaxdeblur.models import ENCODERS, MODELS, build_model
from tests.helpers.paths import TOOLS


def test_the_plan_names_checks_and_networks_that_exist():
    tasks = gpu_check.plan()
    assert {task.check for task in tasks} == set(gpu_check_items.CHECKS)
    assert {task.network for task in tasks} - {""} == set(NETWORKS) == set(gpu_check_items.FULL.networks)
    assert {"training", "outputs", "resume", "export", "largest batch"} <= {
        task.check for task in tasks if task.network == "unet"
    }
    assert set(gpu_check_items.TINY.networks) | {"shipped"} == set(NETWORKS)
    assert {kind for kind, _ in gpu_check_items.FULL.networks.values()} == set(MODELS)


def test_networks_have_the_options_that_the_sizes_name():
    for sizes in (gpu_check_items.FULL, gpu_check_items.TINY):
        for kind, options in sizes.networks.values():
            build_model(kind, **options)
        assert set(sizes.train_batch) <= set(NETWORKS)
    assert gpu_check_items.FULL.networks["resnetencdec"][0] in ENCODERS
    options = gpu_check_items.NAFNET_32
    assert sum(options["encoder_blocks"]) + options["middle_blocks"] + sum(options["decoder_blocks"]) == 36


def test_networks_come_with_random_or_shipped_weights():
    bench = gpu_check_items.Bench(gpu_check_items.TINY)
    for name in NETWORKS:
        _, variables = bench.network(name)
        assert set(variables) == {"params", "batch_stats"}
        assert all(leaf.any() for leaf in jax.tree.leaves(variables["params"])) or name == "shipped"


def test_it_ends_within_four_minutes():
    """The search for a device, the checks until the budget, and what ends after it."""
    assert gpu_check.BUDGET_S <= 230
    assert all(task.limit_s <= gpu_check.BUDGET_S for task in gpu_check.plan())


def test_a_bound_is_not_kept_by_nan():
    assert gpu_check_items.Row("error", 1e-6, 1e-5).passed
    assert not gpu_check_items.Row("error", 2e-5, 1e-5).passed
    assert not gpu_check_items.Row("error", math.nan, 1e-5).passed
    assert gpu_check_items.Row("step", 12.0, unit="ms").passed


class Worker:
    """A process whose checks end as their names say."""

    started = 0

    def __init__(self, **options):
        Worker.started += 1
        self.used = False

    def receive(self, until):
        return {"device": "a device"}

    def run(self, task, rows, until):
        self.used = True
        rows.append({"item": "error", "value": 0.5, "bound": 1.0, "unit": "", "passed": True})
        if task.network == "hangs":
            raise TimeoutError
        if task.network == "dies":
            raise EOFError("the process ended with status -11; see its log")
        if task.network == "late":
            time.sleep(0.3)
            raise TimeoutError
        return "out of bounds: error" if task.network == "fails" else ""

    def close(self):
        pass


def run_session(monkeypatch, tmp_path, *networks, seconds=60.0):
    monkeypatch.setattr(gpu_check, "Worker", Worker)
    Worker.started = 0
    tasks = [Task("outputs", network, 60) for network in networks]
    session = Session(tasks, tmp_path, tiny=False, deadline=time.monotonic() + seconds)
    session.run(lanes=1)
    session.write()
    return session, json.loads((tmp_path / "gpu_check.json").read_text())


def test_a_failure_or_hang_costs_one_check(monkeypatch, tmp_path):
    session, result = run_session(monkeypatch, tmp_path, "good", "hangs", "dies", "fails", "good")
    assert [check["status"] for check in result["checks"]] == ["passed", "timed out", "crashed", "failed", "passed"]
    assert Worker.started == 3  # a new process after the hang and after the crash
    assert session.exit_status() == 1
    table = (tmp_path / "gpu_check.md").read_text()
    assert table.count("| outputs | good | error | 0.5  | 1 | passed |") == 2
    assert "**crashed**: the process ended with status -11" in table


def test_what_the_budget_stops_is_skipped_not_failed(monkeypatch, tmp_path):
    session, result = run_session(monkeypatch, tmp_path, "good", "late", "good", seconds=0.2)
    assert [check["status"] for check in result["checks"]] == ["passed", "skipped", "skipped"]
    assert session.exit_status() == 3


def test_the_checks_run_on_this_machine():
    """The cheapest one here; all of them in `test_all_checks_pass_in_tiny_sizes`."""
    bench = gpu_check_items.Bench(gpu_check_items.TINY)
    rows = list(gpu_check_items.CHECKS["device"](bench, ""))
    assert rows[0].value == "cpu"
    assert all(row.passed for row in rows)
    images = bench.images(2, 8, 12)
    assert images["blur"].shape == images["sharp"].shape == (2, 8, 12, 3)


@pytest.mark.slow
def test_all_checks_pass_for_one_network_in_tiny_sizes(tmp_path):
    """Of one network, because every check compiles its programs; the others take the same code."""
    command = [sys.executable, TOOLS / "gpu_check.py", "--tiny", "--lanes", "2", "--budget", "1500"]
    command += ["--networks", "transformnet"]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    process = subprocess.run(
        [*command, "--output", tmp_path], env=environment, capture_output=True, text=True, timeout=1600, check=False
    )
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {check["status"] for check in result["checks"]} == {"passed"}, process.stdout
    assert process.returncode == 0
