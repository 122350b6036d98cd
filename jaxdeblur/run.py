"""One run from a config to a report: open it, train it, score it on images it has not seen."""

import math
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxdeblur import evaluate, processes, weights
from jaxdeblur.checkpoint import Checkpoints, check_disk_space, set_damaged_aside
from jaxdeblur.config import check_config, flatten, to_plain
from jaxdeblur.console import say, stop_on_signal
from jaxdeblur.data.pipeline import InputOptions, check_sizes, steps_per_epoch
from jaxdeblur.data.sources import DataOptions, PairSource, name_data_set, open_sources
from jaxdeblur.errors import InputError
from jaxdeblur.files import code_version, read_json
from jaxdeblur.initial_weights import network_shapes, read_initial_weights
from jaxdeblur.metric_log import MetricLog
from jaxdeblur.models import ENCODERS, build_model
from jaxdeblur.programs import use_compilation_cache
from jaxdeblur.report import write_report
from jaxdeblur.run_folder import open_run_folder
from jaxdeblur.train import Run, restore_or_create, train
from jaxdeblur.train_state import count_parameters
from jaxdeblur.train_step import batch_sharding, create_local_mesh, create_mesh, plan_stages

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
    if int(state.step):
        say(f"Going on after step {int(state.step)} of {run.total_steps}.")
    if int(state.step) < run.total_steps:
        say(f"{run.total_steps} steps of {run.batch_size} images; the first one waits for the compiler.")
    with stop_on_signal() as stop:
        run.log = MetricLog(workdir, resume_step=int(state.step)) if processes.is_primary() else None
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
    say(f"Report: {processes.on_primary(lambda: write_report(workdir, workdir / 'report'))}")


def open_run(config: ConfigDict, workdir: Path, *, training: bool) -> Run:
    """Check config, data and run folder, in this order, before anything is compiled.

    `training` says whether the devices must be able to share a training batch.

    Raises:
        InputError: something that the user can mend is wrong.
    """
    check_config(config)
    use_compilation_cache(config.compilation_cache)
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
    model = build_model(**plain["model"], **plain["compute"])
    mesh, local_mesh = create_mesh(), create_local_mesh()
    shapes = network_shapes(model)
    checkpoints_folder = workdir / "checkpoints"
    # A run that has a checkpoint goes on from it; the files that it started from may be gone.
    has_checkpoint = processes.on_primary(lambda: any(path.name.isdigit() for path in checkpoints_folder.glob("*")))
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
    agree_on_folder(workdir, config, facts, has_checkpoint=has_checkpoint)
    if training:
        processes.on_primary(lambda: set_damaged_aside(checkpoints_folder))
    return Run(
        model=model,
        stages=stages,
        sources=sources,
        data_set=facts["data_set"],
        splits=config.data.splits,
        blur=config.data.blur,
        dtype=config.compute.dtype,
        options=options,
        seed=config.seed,
        batch_size=config.data.batch_size,
        steps_per_epoch=epoch_steps,
        num_threads=config.data.num_threads,
        eval_batch_size=config.evaluation.batch_size,
        sample_count=config.evaluation.sample_count,
        log_every_steps=config.log.every_steps,
        mesh=mesh,
        local_mesh=local_mesh,
        predict=evaluate.make_predict(model, batch_sharding(local_mesh)),
        initial=initial,
        checkpoints=Checkpoints(checkpoints_folder, keep_latest=config.checkpoint.keep_latest),
    )


def agree_on_folder(workdir: Path, config: ConfigDict, facts: dict[str, Any], *, has_checkpoint: bool) -> None:
    """Make or open the run's folder, in the primary, once all processes are known to mean the same run.

    Raises:
        InputError: they differ, or the folder holds something else.
    """
    # Where the data lies and how it is read may differ between machines; what is in it may not.
    own = ("data.root", "data.num_threads")
    shared = {key: value for key, value in flatten({**to_plain(config), **facts}).items() if key not in own}
    processes.check_agreement({**shared, "--workdir": str(workdir.absolute()), "code_version": code_version()})
    processes.on_primary(lambda: open_run_folder(workdir, config, facts, has_checkpoint=has_checkpoint))


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
        if not again and processes.on_primary(lambda: _is_scored(path, sha256)):  # noqa: B023 -- called at once
            continue
        say(f"Scoring the checkpoint of step {step} on the {len(source)} {split} images.")
        result = run.score(split, variables)
        if processes.is_primary():
            evaluate.write_evaluation(path, protocol, result)


def _is_scored(path: Path, weights_sha256: str) -> bool:
    return path.exists() and read_json(path)["protocol"]["weights_sha256"] == weights_sha256
