"""What a whole run shows of itself: histograms once an epoch and a trace; and that it compiles nothing twice."""

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


class Compiled(logging.Handler):
    """Collects what jax says that it compiles: a program's name, and the shapes and places of its arguments."""

    def __init__(self):
        super().__init__()
        self.programs = []

    def emit(self, record):
        words = record.getMessage()
        if words.startswith("Compiling "):
            self.programs.append(words)


@pytest.fixture
def compiled():
    # Which compiler options there are is found once a process, by compiling nothing under each of them.
    for use_ynnpack_matmul in (False, True):
        compile_program(
            jax.jit(jnp.sin), jax.ShapeDtypeStruct((4,), jnp.float32), use_ynnpack_matmul=use_ynnpack_matmul
        )
    handler, logger = Compiled(), logging.getLogger("jax")
    logger.addHandler(handler)
    jax.clear_caches()
    logger.propagate = False  # else pytest keeps all of it, for hundreds of lines if the test fails
    with jax.log_compiles(True):
        yield handler.programs
    logger.propagate = True
    logger.removeHandler(handler)


@pytest.fixture
def watched_run(tiny_config, tmp_path, compiled):
    """A whole run, of which three steps are traced, what it compiled, and its network."""
    tiny_config.profile_steps = 3
    train_and_evaluate(tiny_config, tmp_path / "run")
    return tmp_path / "run", compiled, build_model(**tiny_config.model)


def test_a_run_compiles_nothing_twice_and_shows_itself(watched_run):
    folder, compiled, model = watched_run
    repeated = [words for words, count in collections.Counter(compiled).items() if count > 1]
    assert not repeated
    names = collections.Counter(words.removeprefix("Compiling ").split(" ")[0] for words in compiled)
    assert names["jit(train_step)"] == 2  # one for each stage
    assert names["jit(forward)"] == 2  # whole batches, and the images that fill none
    assert [names[f"jit({name})"] for name in ("create", "start", "enter_stage", "_all_finite")] == [1] * 4

    shown = collections.defaultdict(set)
    for event in read_events(folder / "tensorboard"):
        for value in event.summary.value:
            if value.HasField("histo"):
                shown[value.tag].add(event.step)
                assert value.histo.num > 0
    names = [name.removeprefix("params/") for name in network_shapes(model) if name.startswith("params/")]
    assert shown == {f"{kind}/{name}": {3, 6, 9} for kind in ("weights", "gradients") for name in names}

    (path,) = folder.glob("tensorboard/plugins/profile/*/perfetto_trace.json.gz")
    assert list(path.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "train") == [3, 4, 5]
