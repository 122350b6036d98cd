"""One run from a config to a report: open it, train it, score it on images it has not seen."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from jaxdeblur import evaluate, processes, weights
from jaxdeblur.checkpoint import check_disk_space
from jaxdeblur.console import say, stop_on_signal
from jaxdeblur.errors import InputError
from jaxdeblur.files import read_json
from jaxdeblur.metric_log import MetricLog
from jaxdeblur.run_setup import Run, open_run
from jaxdeblur.train import restore_or_create, train
from jaxdeblur.train_state import count_parameters

SCORED_SPLITS = ("validation", "test")


def train_and_evaluate(config: ConfigDict, workdir: Path) -> None:
    """Train as the config says, going on where the run in `workdir` stopped; then evaluate and write the report.

    The test split is scored once, at the end, with the checkpoint that was best on the validation split.

    Raises:
        InputError: something that the user can mend is wrong.
    """
    run = processes.together(lambda: open_run(config, workdir, training=True))
    state, progress = restore_or_create(run)
    processes.on_primary(lambda: check_disk_space(workdir, state))
    sizes = ", ".join(f"{len(source)} {split}" for split, source in run.sources.items())
    say(f"{config.model.name}, {count_parameters(state.params):,} parameters; pairs: {sizes}; devices: {jax.devices()}")
    say(f"Initial weights: {progress['initial_weights']}.")
    if progress["step"]:
        say(f"Going on after step {progress['step']} of {run.total_steps}.")
    if progress["step"] < run.total_steps:
        say(f"{run.total_steps} steps of {run.batch_size} images; the first one waits for the compiler.")
    with stop_on_signal() as stop:
        run.log = MetricLog(workdir, resume_step=progress["step"]) if processes.is_primary() else None
        try:
            finished = train(run, state, progress, stop)
        finally:
            if run.log:
                run.log.close()
    if finished:
        evaluate_best(run, workdir)
        report_run(workdir)
    else:
        say(f"Stopped; all is saved in {workdir}. Start the same command again to go on.")
    run.checkpoints.close()


def evaluate_again(config: ConfigDict, workdir: Path) -> None:
    """Score the best checkpoint of the run in `workdir` anew and rewrite the report.

    Raises:
        InputError: something that the user can mend is wrong; for one, that there is no checkpoint.
    """
    if not (workdir / "config.json").exists():
        raise InputError(f"--workdir: {workdir} holds no run (no config.json). Train one first with --mode train.")
    run = processes.together(lambda: open_run(config, workdir, training=False))
    evaluate_best(run, workdir, again=True)
    report_run(workdir)
    run.checkpoints.close()


def report_run(workdir: Path) -> None:
    """Write the report, in the primary, while the others wait."""
    from jaxdeblur.report import write_report  # half a second of imports, which no start of a run must wait for

    say(f"Report: {processes.on_primary(lambda: write_report([workdir], workdir / 'report'))}")


def evaluate_best(run: Run, workdir: Path, *, again: bool = False) -> None:
    """Score the best checkpoint on validation and test and write `eval/`; what is scored already stays unless `again`.

    Raises:
        InputError: the run has no validated checkpoint.
    """
    step = run.checkpoints.best_step
    if step is None:
        raise InputError(f"--workdir: {workdir} has no validated checkpoint. Train it first, for an epoch at least.")
    variables = run.checkpoints.restore_weights(step, run.abstract_variables())
    sha256 = weights.fingerprint(jax.device_get(variables))
    for split in SCORED_SPLITS:
        source = run.sources[split]
        protocol = evaluate.make_protocol(
            run.options,
            data_set=run.data_set,
            split=split,
            splits=run.splits,
            blur=run.blur,
            num_images=len(source),
            num_skipped=len(source.skipped),
            weights_sha256=sha256,
            checkpoint_step=step,
        )
        path = evaluate.evaluation_path(workdir / "eval", protocol)
        if not again and processes.on_primary(lambda: _is_scored(path, sha256)):  # noqa: B023 -- called at once
            continue
        say(f"Scoring the checkpoint of step {step} on the {len(source)} {split} images.")
        result = run.score(split, variables)
        if processes.is_primary():
            evaluate.write_evaluation(path, protocol, result)


def _is_scored(path: Path, weights_sha256: str) -> bool:
    return path.exists() and read_json(path)["protocol"]["weights_sha256"] == weights_sha256
