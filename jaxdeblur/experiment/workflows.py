"""One run from a config to a report: open it, train it, score it on images it has not seen."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxdeblur.config.fields import check_config, to_plain
from jaxdeblur.console import say, stop_on_signal
from jaxdeblur.errors import InputError
from jaxdeblur.evaluation.evaluator import Evaluator, Weights, evaluate_network, open_evaluator
from jaxdeblur.experiment.run_identity import claim_folder, data_facts, network_facts
from jaxdeblur.experiment.setup import open_run, open_scored_run
from jaxdeblur.files import write_json
from jaxdeblur.models import build_model
from jaxdeblur.runs.checkpoint_files import check_disk_space
from jaxdeblur.runs.lock import RunLock
from jaxdeblur.runs.metric_log import MetricLog
from jaxdeblur.runs.train_state import count_parameters
from jaxdeblur.runtime import processes
from jaxdeblur.runtime.compilation import use_compilation_cache
from jaxdeblur.runtime.sharding import replicated
from jaxdeblur.training.loop import needs_validation, restore_or_create, train
from jaxdeblur.training.run import Run, ScoredRun
from jaxdeblur.weights.initial import load_network, network_shapes
from jaxdeblur.weights.tensors import check_fit


def train_and_evaluate(config: ConfigDict, workdir: Path) -> None:
    """Train as the config says, going on where the run in `workdir` stopped; then evaluate and write the report.

    The test split is scored once, at the end, with the checkpoint that was best on the validation split.

    Raises:
        InputError: something that the user can fix is wrong.
    """
    run = processes.run_on_all(lambda: open_run(config, workdir))
    try:
        if train_run(run, config, workdir):
            evaluate_best(run, workdir, again=False)
            report_run(workdir)
        else:
            say(f"Stopped; all is saved in {workdir}. Start the same command again to go on.")
        run.checkpoints.close()
    finally:
        run.release()


def train_run(run: Run, config: ConfigDict, workdir: Path) -> bool:
    """Train from where the run is; return False if a stop was asked for, also during the last validation."""
    state, progress = restore_or_create(run)
    processes.on_primary(lambda: check_disk_space(workdir, state.variables, state.training))
    sources = {"train": run.source, **run.evaluator.protocols[0].sources}
    sources |= {part.field: part.source for part in run.mixture}
    sizes = ", ".join(f"{len(source)} {split}" for split, source in sources.items())
    say(f"{config.model.name}, {count_parameters(state.params):,} parameters; pairs: {sizes}; devices: {jax.devices()}")
    say(f"Initial weights: {progress['initial_weights']}.")
    if progress["step"]:
        say(f"Going on after step {progress['step']} of {run.total_steps}.")
    if progress["step"] < run.total_steps:
        say(f"{run.total_steps} steps of {run.batch_size} images; the first one waits for the compiler.")
    with stop_on_signal() as stop:
        if processes.is_primary():
            again = needs_validation(run, progress)
            run.log = MetricLog(workdir, resume_step=progress["step"], validates_again=again)
        try:
            finished = train(run, state, progress, stop)
        finally:
            if run.log:
                run.log.close()
    # Asked now that no signal is received any more: one of them may have come during the last validation.
    stopped, _ = processes.sync_stop_flags(stop, False)()
    return finished and not stopped


def evaluate_run(config: ConfigDict, workdir: Path, checkpoints: str) -> None:
    """Score checkpoints of the run in `workdir` anew and rewrite the report; the run may be training meanwhile.

    Args:
        config: the run's, from its config.json; where the data lies, `evaluation` and the like may differ.
        workdir: the run's folder.
        checkpoints: `best`, the one with the highest PSNR on validation while training; `all`, to score all that are
            kept on validation and choose the best by that; or a step. Only the chosen one is scored on test.

    Raises:
        InputError: something that the user can fix is wrong; for one, that there is no checkpoint.
    """
    if not (workdir / "config.json").exists():
        raise InputError(
            f"--workdir: {workdir} holds no run (no config.json). Train one first with --mode train.", code="no-run"
        )
    run = processes.run_on_all(lambda: open_scored_run(config, workdir))
    if checkpoints == "best":
        evaluate_best(run, workdir, again=True)
    else:
        step = evaluate_all_checkpoints(run, workdir) if checkpoints == "all" else int(checkpoints)
        evaluate_checkpoint(run, workdir, step, restore(run, workdir, step), again=True)
    report_run(workdir)
    run.checkpoints.close()


def evaluate_weights(config: ConfigDict, workdir: Path, path: Path) -> None:
    """Score a network from a `.safetensors` or from another run on any data, into the new folder `workdir`.

    Raises:
        InputError: something that the user can mend is wrong; for one, that the weights are another network's.
    """
    evaluator, chosen, lock = processes.run_on_all(lambda: open_weights(config, workdir, path))
    try:
        evaluate_network(
            evaluator, workdir / "eval", chosen, history=workdir / "eval" / "test_history.json", again=True
        )
        report_run(workdir)
    finally:
        if lock:
            lock.release()


def open_weights(config: ConfigDict, workdir: Path, path: Path) -> tuple[Evaluator, Weights, RunLock | None]:
    """Check config, weights, data and folder; return the folder's lock too, in the primary.

    Raises:
        InputError: something that the user can mend is wrong.
    """
    check_config(config, num_devices=jax.device_count(), training=False)
    use_compilation_cache(config.compilation_cache)
    if any((workdir / "checkpoints").glob("*")):
        raise InputError(
            f"--workdir: {workdir} holds a trained run. Choose another folder for the scores of --weights."
        )
    plain = to_plain(config)
    model = build_model(**plain["model"], **plain["compute"])
    shapes, (variables, _, origin) = network_shapes(model), load_network(path)
    check_fit(path, variables, shapes)
    evaluator = open_evaluator(plain, model, opened={})
    data = data_facts(evaluator.data_set, evaluator.protocols[0].sources)
    facts = {
        **network_facts(config, shapes),
        "trained": False,
        "initial_weights": f"not trained here; {origin}",
        **data,
    }
    lock = claim_folder(workdir, config, facts, has_checkpoint=False)
    return evaluator, Weights(jax.device_put(variables, replicated(evaluator.local_mesh)), origin, step=None), lock


def report_run(workdir: Path) -> None:
    """Write the report, in the primary, while the others wait."""
    from jaxdeblur.report import write_report  # half a second of imports, which no start of a run must wait for

    say(f"Report: {processes.on_primary(lambda: write_report([workdir], workdir / 'report'))}")


def evaluate_best(run: ScoredRun, workdir: Path, *, again: bool) -> None:
    """Score the checkpoint that was best on validation while training; see `judge_checkpoint`.

    Raises:
        InputError: the run has no validated checkpoint, or the best is damaged.
    """
    best = run.checkpoints.restore_best(run.abstract_variables())
    if best is None:
        words = "has no validated checkpoint. Train it first, for an epoch at least."
        raise InputError(f"--workdir: {workdir} {words}", code="no-validated-checkpoint")
    step, variables = best
    evaluate_checkpoint(run, workdir, step, variables, again=again)


def evaluate_checkpoint(run: ScoredRun, workdir: Path, step: int, variables: Any, *, again: bool) -> None:
    """Score a checkpoint's weights on all splits and write `eval/`; what is scored already stays unless `again`."""
    chosen = Weights(variables, f"run {workdir.absolute().name}, step {step}", step)
    evaluate_network(
        run.evaluator, workdir / "eval", chosen, history=workdir / "eval" / "test_history.json", again=again
    )


def evaluate_all_checkpoints(run: ScoredRun, workdir: Path) -> int:
    """Score all checkpoints on validation by the first protocol and return the best step; `eval/checkpoints.json`.

    Raises:
        InputError: there is no checkpoint, one is damaged, or there are no validation pairs.
    """
    protocol, rows = run.evaluator.protocols[0], []
    if "validation" not in protocol.sources:
        words = "--checkpoints: 'all' chooses by the validation split, which the data lacks. Choose 'best' or a step."
        raise InputError(words, code="no-validation-pairs")
    for step in run.checkpoints.steps:
        try:
            variables = restore(run, workdir, step)
        except InputError as error:
            if error.code != "checkpoint-removed":
                raise
            say(f"The checkpoint of step {step} was removed by the training run meanwhile; it is not scored.")
            continue
        say(f"Scoring the checkpoint of step {step} on the validation images.")
        summary = run.validate(variables).summary
        rows.append({"step": step, "psnr": summary["psnr"], "gain_psnr": summary["gain_psnr"]})
    if not rows:
        raise InputError(f"--workdir: {workdir} has no checkpoint. Train it first.", code="no-validated-checkpoint")
    best = max(rows, key=lambda row: (row["psnr"], row["step"]))["step"]
    words = Weights(None, "all checkpoints", None)
    record = run.evaluator.protocol_record(protocol, "validation", words, sha256="")
    path = workdir / "eval" / "checkpoints.json"
    content = {"protocol": record, "checkpoints": rows, "best_step": best}
    processes.on_primary(lambda: write_record(path, content))
    say(f"The best of {len(rows)} checkpoints on validation is that of step {best}.")
    return best


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a record of an evaluation, in a folder that may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def restore(run: ScoredRun, workdir: Path, step: int) -> Any:
    """Return a checkpoint's weights, whole on every device.

    Raises:
        InputError: there is no such checkpoint, or it is damaged.
    """
    if step not in run.checkpoints.steps:
        kept = ", ".join(map(str, run.checkpoints.steps)) or "none"
        words = f"--checkpoints: {step}, but {workdir} keeps the checkpoints of the steps {kept}."
        raise InputError(words, code="no-checkpoint")
    return run.checkpoints.restore_weights(step, run.abstract_variables())
