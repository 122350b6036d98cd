"""Training in this process, and what a run's folder holds."""

import json

import jax
import orbax.checkpoint as ocp

from jaxdeblur.experiment.setup import open_run
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.metric_log import MetricLog, read_metrics
from jaxdeblur.training.loop import needs_validation, restore_or_create, train
from jaxdeblur.weights.tensors import fingerprint


class StopAfter:
    """A stop request that becomes true after a number of steps; it is read once per step."""

    def __init__(self, steps):
        self.left = steps

    def __bool__(self):
        self.left -= 1
        return self.left <= 0


def start(config, workdir, steps=10**9):
    """Train for at most `steps` steps; return whether it finished, the weights' fingerprint and the run."""
    run = open_run(config, workdir)
    try:
        state, progress = restore_or_create(run)
        unvalidated = needs_validation(run, progress)
        run.log = MetricLog(workdir, resume_step=int(state.step), revalidates=unvalidated)
        try:
            finished = train(run, state, progress, StopAfter(steps))
        finally:
            run.log.close()
    finally:
        run.release()
    weights = run.checkpoints.restore_weights(run.checkpoints.latest_step, run.abstract_variables())
    return finished, fingerprint(jax.device_get(weights)), run


def newest(folder):
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)


def being_written(folder):
    return any(not path.name.isdigit() for path in folder.glob("*"))


def log_without_clock(workdir):
    """Return the lines of metrics.jsonl without times and speeds."""
    return [
        {key: value for key, value in line.items() if not key.startswith(("wall_s", "train/images_per_s", "speed/"))}
        for line in read_metrics(workdir / "metrics.jsonl")
    ]


def everything_saved(workdir):
    """Return fingerprints of the newest and the best checkpoint, the optimizer state, and the progress."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep_latest=2, read_only=True)
    steps = (checkpoints.latest_step, checkpoints.best_step)
    with ocp.StandardCheckpointer() as reader:
        trees = [reader.restore(workdir / "checkpoints" / str(step) / "weights") for step in steps]
        optimizer = reader.restore(workdir / "checkpoints" / str(steps[0]) / "optimizer")
    leaves = [leaf.tobytes() for leaf in jax.tree.leaves(jax.device_get(optimizer))]
    return steps, [fingerprint(jax.device_get(tree)) for tree in trees], leaves, checkpoints.progress(steps[0])


def comparable_record(record_file):
    """Return an evaluation record without what always differs between runs: date, folder and throughput."""
    record = json.loads(record_file.read_text())
    del record["protocol"]["date"], record["protocol"]["weights"], record["speed"]
    assert record["images"]
    return record
