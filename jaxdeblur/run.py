"""One run from a config to a report: open it, train it, score it on images it has not seen."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxdeblur import processes
from jaxdeblur.checkpoint import check_disk_space
from jaxdeblur.config import check_config, to_plain
from jaxdeblur.console import say, stop_on_signal
from jaxdeblur.errors import InputError
from jaxdeblur.files import write_json
from jaxdeblur.initial_weights import load_network, network_shapes
from jaxdeblur.judge import Judge, Weights, judge_weights, open_judge
from jaxdeblur.metric_log import MetricLog
from jaxdeblur.models import build_model
from jaxdeblur.programs import use_compilation_cache
from jaxdeblur.run_setup import Run, agree_on_folder, data_facts, network_facts, open_run
from jaxdeblur.train import restore_or_create, train
from jaxdeblur.train_state import count_parameters
from jaxdeblur.train_step import replicated
from jaxdeblur.weights import check_fit


def train_and_evaluate(config: ConfigDict, workdir: Path) -> None:
    """Train as the config says, going on where the run in `workdir` stopped; then evaluate and write the report.

    The test split is scored once, at the end, with the checkpoint that was best on the validation split.

    Raises:
        InputError: something that the user can mend is wrong.
    """
    run = processes.together(lambda: open_run(config, workdir, training=True))
    state, progress = restore_or_create(run)
    processes.on_primary(lambda: check_disk_space(workdir, state))
    sources = {"train": run.source, **run.judge.protocols[0].sources}
    sources |= {part.field: part.source for part in run.mixture}
    sizes = ", ".join(f"{len(source)} {split}" for split, source in sources.items())
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
        judge_checkpoint(run, workdir, best_step(run, workdir), again=False)
        report_run(workdir)
    else:
        say(f"Stopped; all is saved in {workdir}. Start the same command again to go on.")
    run.checkpoints.close()


def evaluate_run(config: ConfigDict, workdir: Path, checkpoints: str) -> None:
    """Score checkpoints of the run in `workdir` anew and rewrite the report.

    Args:
        config: the run's.
        workdir: the run's folder.
        checkpoints: `best`, the one with the highest PSNR on validation while training; `all`, to score all that are
            kept on validation and choose the best by that; or a step. Only the chosen one is scored on test.

    Raises:
        InputError: something that the user can mend is wrong; for one, that there is no checkpoint.
    """
    if not (workdir / "config.json").exists():
        raise InputError(f"--workdir: {workdir} holds no run (no config.json). Train one first with --mode train.")
    run = processes.together(lambda: open_run(config, workdir, training=False))
    best = best_step(run, workdir)
    if checkpoints == "all":
        best = judge_all(run, workdir)
    judge_checkpoint(run, workdir, best if checkpoints in ("best", "all") else int(checkpoints), again=True)
    report_run(workdir)
    run.checkpoints.close()


def evaluate_weights(config: ConfigDict, workdir: Path, path: Path) -> None:
    """Score a network from a `.safetensors` or from another run on any data, into the new folder `workdir`.

    Raises:
        InputError: something that the user can mend is wrong; for one, that the weights are another network's.
    """
    judge, chosen = processes.together(lambda: open_weights(config, workdir, path))
    judge_weights(judge, workdir / "eval", chosen, history=workdir / "eval" / "test_history.json", again=True)
    report_run(workdir)


def open_weights(config: ConfigDict, workdir: Path, path: Path) -> tuple[Judge, Weights]:
    """Check config, weights, data and folder.

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
    judge = open_judge(plain, model, opened={})
    data = data_facts(judge.data_set, judge.protocols[0].sources)
    facts = {
        **network_facts(config, shapes),
        "trained": False,
        "initial_weights": f"not trained here; {origin}",
        **data,
    }
    agree_on_folder(workdir, config, facts, has_checkpoint=False)
    return judge, Weights(jax.device_put(variables, replicated(judge.local_mesh)), origin, step=None)


def report_run(workdir: Path) -> None:
    """Write the report, in the primary, while the others wait."""
    from jaxdeblur.report import write_report  # half a second of imports, which no start of a run must wait for

    say(f"Report: {processes.on_primary(lambda: write_report([workdir], workdir / 'report'))}")


def best_step(run: Run, workdir: Path) -> int:
    """Return the step of the checkpoint that was best on validation while training.

    Raises:
        InputError: the run has no validated checkpoint.
    """
    step = run.checkpoints.best_step
    if step is None:
        raise InputError(f"--workdir: {workdir} has no validated checkpoint. Train it first, for an epoch at least.")
    return step


def judge_checkpoint(run: Run, workdir: Path, step: int, *, again: bool) -> None:
    """Score one checkpoint on all splits and write `eval/`; what is scored already stays unless `again`.

    Raises:
        InputError: there is no such checkpoint, or it is damaged.
    """
    if step not in run.checkpoints.steps:
        kept = ", ".join(map(str, run.checkpoints.steps))
        raise InputError(f"--checkpoints: {step}, but {workdir} keeps the checkpoints of the steps {kept}.")
    chosen = Weights(restore(run, step), f"run {workdir.absolute().name}, step {step}", step)
    judge_weights(run.judge, workdir / "eval", chosen, history=workdir / "eval" / "test_history.json", again=again)


def judge_all(run: Run, workdir: Path) -> int:
    """Score all checkpoints on validation by the first protocol and return the best step; `eval/checkpoints.json`."""
    protocol, rows = run.judge.protocols[0], []
    for step in run.checkpoints.steps:
        say(f"Scoring the checkpoint of step {step} on the validation images.")
        summary = run.validate(restore(run, step)).summary
        rows.append({"step": step, "psnr": summary["psnr"], "gain_psnr": summary["gain_psnr"]})
    best = max(rows, key=lambda row: (row["psnr"], row["step"]))["step"]
    words = Weights(None, "all checkpoints", None)
    record = run.judge.protocol_record(protocol, "validation", words, sha256="")
    path = workdir / "eval" / "checkpoints.json"
    content = {"protocol": record, "checkpoints": rows, "best_step": best}
    processes.on_primary(lambda: write_json(path, content))
    say(f"The best of {len(rows)} checkpoints on validation is that of step {best}.")
    return best


def restore(run: Run, step: int) -> Any:
    """Return a checkpoint's weights, whole on every device."""
    return run.checkpoints.restore_weights(step, run.abstract_variables())
