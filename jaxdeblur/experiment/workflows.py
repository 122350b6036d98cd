"""From a config to a report: train a run, score it on unseen images, write the report."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxdeblur.console import say, stop_on_signal
from jaxdeblur.errors import InputError
from jaxdeblur.evaluation.evaluator import Weights, evaluate_network
from jaxdeblur.experiment.setup import open_run, open_scored_run, open_scored_weights
from jaxdeblur.runs.checkpoint_files import check_disk_space
from jaxdeblur.runs.metric_log import MetricLog
from jaxdeblur.runs.records import CheckpointScore, CheckpointScores, to_json, write_record
from jaxdeblur.runs.train_state import count_parameters
from jaxdeblur.runtime import processes
from jaxdeblur.training.loop import needs_validation, restore_or_create, train
from jaxdeblur.training.run import Run, ScoredRun


def train_and_evaluate(config: ConfigDict, workdir: Path) -> None:
    """Train a run, resuming where it stopped; then evaluate it and write the report.

    The test split is scored once, at the end, with the checkpoint that was best on the validation split.

    Raises:
        InputError: the user can fix what is wrong.
    """
    run = processes.run_on_all(lambda: open_run(config, workdir))
    try:
        if train_run(run, config, workdir):
            evaluate_best(run, workdir, overwrite=False)
            report_run(workdir)
        else:
            say(f"Stopped; everything is saved in {workdir}. Run the same command again to resume.")
        run.checkpoints.close()
    finally:
        run.release()


def train_run(run: Run, config: ConfigDict, workdir: Path) -> bool:
    """Train from the run's current step; return False if a stop was requested, even during the last validation."""
    state, progress = restore_or_create(run)
    processes.on_primary(lambda: check_disk_space(workdir, state.variables, state.training))
    sources = {"train": run.source, **run.evaluator.protocols[0].sources}
    sources |= {part.field: part.source for part in run.mixture}
    sizes = ", ".join(f"{len(source)} {split}" for split, source in sources.items())
    say(f"{config.model.name}, {count_parameters(state.params):,} parameters; pairs: {sizes}; devices: {jax.devices()}")
    say(f"Initial weights: {progress.initial_weights}.")
    if progress.step:
        say(f"Resuming after step {progress.step} of {run.total_steps}.")
    if progress.step < run.total_steps:
        say(f"{run.total_steps} steps of {run.batch_size} images; the first one waits for the compiler.")
    with stop_on_signal() as stop:
        if processes.is_primary():
            run.log = MetricLog(workdir, resume_step=progress.step, revalidates=needs_validation(run, progress))
        try:
            finished = train(run, state, progress, stop)
        finally:
            if run.log:
                run.log.close()
    # Checked after signals are no longer handled: one may have arrived during the last validation.
    stopped, _ = processes.sync_stop_flags(stop, False)()
    return finished and not stopped


def evaluate_run(config: ConfigDict, workdir: Path, checkpoints: str) -> None:
    """Score checkpoints of the run in `workdir` and rewrite the report; the run may still be training.

    Args:
        config: the run's, from its config.json; the data folder, `evaluation` and similar fields may differ.
        workdir: the run's folder.
        checkpoints: `best`, the one with the highest validation PSNR during training; `all`, to score every checkpoint
            on validation and choose the best; or a step. Only the selected one is scored on test.

    Raises:
        InputError: the user can fix what is wrong, for example that there is no checkpoint.
    """
    if not (workdir / "config.json").exists():
        raise InputError(
            f"--workdir: {workdir} holds no run (no config.json). Train one first with --mode train.", code="no-run"
        )
    run = processes.run_on_all(lambda: open_scored_run(config, workdir))
    if checkpoints == "best":
        evaluate_best(run, workdir, overwrite=True)
    else:
        step = evaluate_all_checkpoints(run, workdir) if checkpoints == "all" else int(checkpoints)
        evaluate_checkpoint(run, workdir, step, restore(run, workdir, step), overwrite=True)
    report_run(workdir)
    run.checkpoints.close()


def evaluate_weights(config: ConfigDict, workdir: Path, path: Path) -> None:
    """Score a network from a file or another run on any data, into the new folder `workdir`.

    For weights from a PyTorch file, the architecture is the file's, whatever the config's model.

    Raises:
        InputError: the user can fix what is wrong, for example that the weights are another network's.
    """
    evaluator, weights, lock = processes.run_on_all(lambda: open_scored_weights(config, workdir, path))
    try:
        evaluate_network(evaluator, workdir / "eval", weights, overwrite=True)
        report_run(workdir)
    finally:
        if lock:
            lock.release()


def report_run(workdir: Path) -> None:
    """Write the report in the primary process, while the others wait."""
    from jaxdeblur.report import write_report  # imports take half a second, which a start should not wait for

    say(f"Report: {processes.on_primary(lambda: write_report([workdir], workdir / 'report'))}")


def evaluate_best(run: ScoredRun, workdir: Path, *, overwrite: bool) -> None:
    """Score the checkpoint that was best on validation during training; see `evaluate_checkpoint`.

    Raises:
        InputError: the run has no validated checkpoint, or the best is corrupt.
    """
    best = run.checkpoints.restore_best(run.abstract_variables())
    if best is None:
        message = f"--workdir: {workdir} has no validated checkpoint. Train it for at least one epoch first."
        raise InputError(message, code="no-validated-checkpoint")
    step, variables = best
    evaluate_checkpoint(run, workdir, step, variables, overwrite=overwrite)


def evaluate_checkpoint(run: ScoredRun, workdir: Path, step: int, variables: Any, *, overwrite: bool) -> None:
    """Score a checkpoint on all splits and write `eval/`; scores of the same weights are kept unless `overwrite`."""
    weights = Weights(variables, f"run {workdir.absolute().name}, step {step}", step)
    evaluate_network(run.evaluator, workdir / "eval", weights, overwrite=overwrite)


def evaluate_all_checkpoints(run: ScoredRun, workdir: Path) -> int:
    """Score all checkpoints on validation by the first protocol, write `eval/checkpoints.json`, return the best step.

    Raises:
        InputError: there is no checkpoint, one is corrupt, or there are no validation pairs.
    """
    protocol, rows = run.evaluator.protocols[0], []
    if "validation" not in protocol.sources:
        message = "--checkpoints: 'all' chooses by the validation split, which the data lacks. Choose 'best' or a step."
        raise InputError(message, code="no-validation-pairs")
    for step in run.checkpoints.steps:
        try:
            variables = restore(run, workdir, step)
        except InputError as error:
            if error.code != "checkpoint-removed":
                raise
            say(f"The checkpoint of step {step} was removed by the running training and is not scored.")
            continue
        say(f"Scoring the checkpoint of step {step} on the validation images.")
        summary = run.validate(variables).summary
        rows.append(CheckpointScore(step, summary.psnr, summary.gain_psnr))
    if not rows:
        raise InputError(f"--workdir: {workdir} has no checkpoint. Train it first.", code="no-validated-checkpoint")
    best = max(rows, key=lambda row: (row.psnr, row.step)).step
    weights = Weights(None, "all checkpoints", None)
    record = run.evaluator.protocol_record(protocol, "validation", weights, sha256="")
    path = workdir / "eval" / "checkpoints.json"
    scores = CheckpointScores(to_json(record), rows, best)
    processes.on_primary(lambda: write_record(path, scores))
    say(f"Best of {len(rows)} checkpoints on validation: step {best}.")
    return best


def restore(run: ScoredRun, workdir: Path, step: int) -> Any:
    """Return a checkpoint's weights, replicated on all devices.

    Raises:
        InputError: there is no such checkpoint, or it is corrupt.
    """
    if step not in run.checkpoints.steps:
        available = ", ".join(map(str, run.checkpoints.steps)) or "none"
        message = f"--checkpoints: {step}, but {workdir} has the checkpoints of steps {available}."
        raise InputError(message, code="no-checkpoint")
    return run.checkpoints.restore_weights(step, run.abstract_variables())
