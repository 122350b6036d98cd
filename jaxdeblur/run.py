"""One run from a config to a report: open it, train it, score it on images it has not seen."""

import math
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxdeblur import evaluate, weights
from jaxdeblur.checkpoint import Checkpoints, check_disk_space
from jaxdeblur.config import check_config, to_plain
from jaxdeblur.console import say, stop_on_signal
from jaxdeblur.data.pipeline import InputOptions, check_sizes, steps_per_epoch
from jaxdeblur.data.sources import DataOptions, PairSource, name_data_set, open_sources
from jaxdeblur.errors import InputError
from jaxdeblur.files import read_json
from jaxdeblur.initial_weights import network_shapes, read_initial_weights
from jaxdeblur.metric_log import MetricLog
from jaxdeblur.models import ENCODERS, build_model
from jaxdeblur.report import write_report
from jaxdeblur.run_folder import open_run_folder
from jaxdeblur.train import Run, restore_or_create, train
from jaxdeblur.train_state import count_parameters
from jaxdeblur.train_step import batch_sharding, create_mesh, plan_stages

SCORED_SPLITS = ("validation", "test")


def train_and_evaluate(config: ConfigDict, workdir: Path) -> None:
    """Train as the config says, going on where the run in `workdir` stopped; then evaluate and write the report.

    The test split is scored once, at the end, with the checkpoint that was best on the validation split.

    Raises:
        InputError: something that the user can mend is wrong.
    """
    run = open_run(config, workdir, training=True)
    state, progress = restore_or_create(run)
    check_disk_space(workdir, state)
    sizes = ", ".join(f"{len(source)} {split}" for split, source in run.sources.items())
    say(f"{config.model.name}, {count_parameters(state.params):,} parameters; pairs: {sizes}; devices: {jax.devices()}")
    say(f"Initial weights: {progress['initial_weights']}.")
    if int(state.step):
        say(f"Going on after step {int(state.step)} of {run.total_steps}.")
    if int(state.step) < run.total_steps:
        say(f"{run.total_steps} steps of {run.batch_size} images; the first one waits for the compiler.")
    with stop_on_signal() as stop:
        run.log = MetricLog(workdir, resume_step=int(state.step))
        try:
            finished = train(run, state, progress, stop)
        finally:
            run.log.close()
    if finished:
        evaluate_best(run, workdir)
        say(f"Report: {write_report(workdir, workdir / 'report')}")
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
    run = open_run(config, workdir, training=False)
    evaluate_best(run, workdir, again=True)
    say(f"Report: {write_report(workdir, workdir / 'report')}")
    run.checkpoints.close()


def open_run(config: ConfigDict, workdir: Path, *, training: bool) -> Run:
    """Check config, data and run folder, in this order, before anything is compiled.

    `training` says whether the devices must be able to share a training batch.

    Raises:
        InputError: something that the user can mend is wrong.
    """
    check_config(config)
    plain = to_plain(config)
    for field in ("data", "evaluation") if training else ("evaluation",):
        check_batch_size(f"{field}.batch_size", plain[field]["batch_size"], jax.device_count())
    if training:
        for i, stage in enumerate(plain["stages"]):
            words = f"data.batch_size / stages[{i}].accumulate"
            check_batch_size(words, plain["data"]["batch_size"] // stage["accumulate"], jax.device_count())
    options = InputOptions(**{key: config.data[key] for key in ("resize", "resize_filter", "flip_and_turn")})
    crops = [stage["crop"] for stage in plain["stages"]]
    root, sources = open_data(plain["data"], largest_crop=max(crops))
    check_sizes(sources["train"], options.resize, crops)
    epoch_steps = steps_per_epoch(len(sources["train"]), config.data.batch_size)
    encoder = ENCODERS.get(config.model.name, "")
    stages = plan_stages(plain["stages"], epoch_steps, encoder=encoder, ema_decay=config.ema_decay)
    model, mesh = build_model(**plain["model"], **plain["compute"]), create_mesh()
    shapes = network_shapes(model)
    checkpoints_folder = workdir / "checkpoints"
    # A run that has a checkpoint goes on from it; the files that it started from may be gone.
    has_checkpoint = any(path.name.isdigit() for path in checkpoints_folder.glob("*"))
    initial = None if has_checkpoint else read_initial_weights(config.model.name, plain["start"], shapes)
    facts = {
        "network": config.model.name,
        "parameters": sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("params/")),
        "initial_weights": initial.description if initial else "",
        "data_set": name_data_set(root, sources["train"]),
        "data_sha256": {split: source.fingerprint() for split, source in sources.items()},
        "pairs": {split: len(source) for split, source in sources.items()},
        "pairs_skipped": {split: len(source.skipped) for split, source in sources.items()},
        "steps_per_epoch": epoch_steps,
    }
    open_run_folder(workdir, config, facts, has_checkpoint=has_checkpoint)
    return Run(
        model=model,
        stages=stages,
        sources=sources,
        data_set=facts["data_set"],
        splits=config.data.splits,
        blur=config.data.blur,
        options=options,
        seed=config.seed,
        batch_size=config.data.batch_size,
        steps_per_epoch=epoch_steps,
        num_threads=config.data.num_threads,
        eval_batch_size=config.evaluation.batch_size,
        sample_count=config.evaluation.sample_count,
        log_every_steps=config.log.every_steps,
        mesh=mesh,
        predict=evaluate.make_predict(model, batch_sharding(mesh)),
        initial=initial,
        checkpoints=Checkpoints(checkpoints_folder, keep_latest=config.checkpoint.keep_latest),
    )


def open_data(data: dict[str, Any], *, largest_crop: int) -> tuple[Path, dict[str, PairSource]]:
    """Return the data's folder and the sources of `train`, `validation` and `test`, by the config's fields `data`.

    Raises:
        InputError: a folder, a file, a pair or a split is wrong.
    """
    root = Path(data["root"]).expanduser()
    options = DataOptions(root, **{key: data[key] for key in ("blur", "splits", "validation_sequences", "skip_bad")})
    sources = open_sources(options, resize=data["resize"], resize_filter=data["resize_filter"], crop=largest_crop)
    return root, sources


def check_batch_size(field: str, batch_size: int, devices: int) -> None:
    """Refuse a batch that cannot be shared out evenly.

    Raises:
        InputError: names the nearest sizes that can.
    """
    if batch_size % devices:
        lower, upper = batch_size // devices * devices, -(-batch_size // devices) * devices
        nearest = f"{lower} or {upper}" if lower else f"{upper}"
        raise InputError(
            f"{field}: {batch_size} is no multiple of the {devices} devices. Set it to {nearest}, or go on with fewer "
            "devices (CUDA_VISIBLE_DEVICES)."
        )


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
        if not again and path.exists() and read_json(path)["protocol"]["weights_sha256"] == sha256:
            continue
        say(f"Scoring the checkpoint of step {step} on the {len(source)} {split} images.")
        evaluate.write_evaluation(path, protocol, run.score(split, variables))
