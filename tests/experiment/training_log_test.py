"""A whole run logs histograms once per epoch and a trace, and compiles each program once."""

import collections
import gzip
import json
import logging

import jax
import jax.numpy as jnp
import pytest

from jaxdeblur.experiment.workflows import train_and_evaluate
from jaxdeblur.models import build_model
from jaxdeblur.runtime.compilation import compile_program
from jaxdeblur.weights.tensors import network_shapes
from tests.helpers.tensorboard import read_events


class CompileLog(logging.Handler):
    """Collects JAX's log of compilations: a program's name, and the shapes and shardings of its arguments."""

    def __init__(self):
        super().__init__()
        self.programs = []

    def emit(self, record):
        message = record.getMessage()
        if message.startswith("Compiling "):
            self.programs.append(message)


@pytest.fixture
def compiled():
    # The supported compiler options are determined once per process, by compiling a trivial program with each.
    for use_ynnpack_matmul in (False, True):
        compile_program(
            jax.jit(jnp.sin), jax.ShapeDtypeStruct((4,), jnp.float32), use_ynnpack_matmul=use_ynnpack_matmul
        )
    handler, logger = CompileLog(), logging.getLogger("jax")
    logger.addHandler(handler)
    jax.clear_caches()
    logger.propagate = False  # else pytest prints hundreds of lines if the test fails
    with jax.log_compiles(True):
        yield handler.programs
    logger.propagate = True
    logger.removeHandler(handler)


@pytest.fixture
def traced_run(tiny_config, tmp_path, compiled):
    """A whole run with three traced steps: its folder, the compiled programs and the network."""
    tiny_config.profile_steps = 3
    train_and_evaluate(tiny_config, tmp_path / "run")
    return tmp_path / "run", compiled, build_model(**tiny_config.model)


def test_a_run_compiles_each_program_once_and_logs_histograms_and_a_trace(traced_run):
    folder, compiled, model = traced_run
    repeated = [program for program, count in collections.Counter(compiled).items() if count > 1]
    assert not repeated
    names = collections.Counter(program.removeprefix("Compiling ").split(" ")[0] for program in compiled)
    assert names["jit(train_step)"] == 2  # one for each stage
    assert names["jit(forward)"] == 2  # whole batches, and the remaining images
    assert [names[f"jit({name})"] for name in ("create", "start", "enter_stage", "_all_finite")] == [1] * 4

    logged = collections.defaultdict(set)
    for event in read_events(folder / "tensorboard"):
        for value in event.summary.value:
            if value.HasField("histo"):
                logged[value.tag].add(event.step)
                assert value.histo.num > 0
    names = [name.removeprefix("params/") for name in network_shapes(model) if name.startswith("params/")]
    assert logged == {f"{kind}/{name}": {3, 6, 9} for kind in ("weights", "gradients") for name in names}

    (path,) = folder.glob("tensorboard/plugins/profile/*/perfetto_trace.json.gz")
    assert list(path.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "train") == [3, 4, 5]
