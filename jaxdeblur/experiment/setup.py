"""What a run needs, checked and made once: from a config, the data and a folder to a `Run`.

Batches are uint8 NHWC RGB; PSNR is in dB.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from jaxdeblur.config.fields import check_config, to_plain
from jaxdeblur.data.array_records import ArrayRecordSource
from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.image_cache import ImageCache
from jaxdeblur.data.mixture import Part, exclude_scored, open_part
from jaxdeblur.data.pair_source import PairSource
from jaxdeblur.data.paired_folders import FolderSource
from jaxdeblur.data.pipeline import check_sizes, steps_per_epoch
from jaxdeblur.errors import InputError, raise_together
from jaxdeblur.evaluation.evaluator import open_data, open_evaluator
from jaxdeblur.experiment.config_changes import check_scoring
from jaxdeblur.experiment.run_identity import agree, claim_folder, data_facts, network_facts
from jaxdeblur.files import read_json, require_utf8
from jaxdeblur.models import ENCODERS, build_model
from jaxdeblur.runs.checkpoint_files import set_damaged_aside
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.folder import is_under_way
from jaxdeblur.runs.lock import RunLock
from jaxdeblur.runtime import processes
from jaxdeblur.runtime.compilation import use_compilation_cache
from jaxdeblur.runtime.sharding import create_mesh
from jaxdeblur.training.run import Run, ScoredRun
from jaxdeblur.training.stages import Stage, plan_stages
from jaxdeblur.weights.initial import InitialWeights, network_shapes, read_initial_weights


def open_run(config: ConfigDict, workdir: Path) -> Run:
    """Check config, data and run folder, in this order, before anything is compiled; the run is then this process's.

    Raises:
        InputError: something that the user can fix is wrong; for one, that another process owns the run.
    """
    require_utf8(workdir, "--workdir")
    check_config(config, num_devices=jax.device_count(), training=True)
    use_compilation_cache(config.compilation_cache)
    plain = to_plain(config)
    data = plain["data"]
    options = InputOptions(
        resize=data["resize"],
        resize_filter=data["resize_filter"],
        flip_and_rotate=data["flip_and_turn"],
        zoom=data["rescale"],
        aspect_jitter=data["stretch"],
        permute_channels=data["permute_channels"],
        gain=data["gain"],
    )
    crops = [stage["crop"] for stage in plain["stages"]]
    model = build_model(**plain["model"], **plain["compute"])
    sources, mixture = open_training_data(plain["data"], options, max(crops))
    source = sources["train"]
    # Where training reads windows of frames, scoring may read frames that were resized beforehand, much faster.
    apart = options.reads_windows and isinstance(source, ArrayRecordSource)
    evaluator = open_evaluator(plain, model, opened={} if apart else {options.resize: sources})
    _, stages = raise_together(lambda: check_sizes(source, options, crops, mixture), lambda: fit_stages(plain, source))
    facts = {**data_facts(evaluator.data_set, sources, mixture), "steps_per_epoch": stages[0].steps_per_epoch}
    initial, lock = open_start(config, workdir, model, facts)
    try:
        checkpoints = open_checkpoints(workdir, config.checkpoint.keep_latest)
    except BaseException:
        if lock:
            lock.release()
        raise
    return Run(
        model=model,
        stages=stages,
        source=source,
        dtype=config.compute.dtype,
        options=options,
        mixture=mixture,
        seed=config.seed,
        batch_size=config.data.batch_size,
        num_threads=config.data.num_threads,
        log_every_steps=config.log.every_steps,
        profile_steps=config.profile_steps,
        mesh=create_mesh(),
        evaluator=evaluator,
        initial=initial,
        lock=lock,
        checkpoints=checkpoints,
    )


def open_checkpoints(workdir: Path, keep_latest: int) -> Checkpoints:
    """Open a run's checkpoints to add to them, after damaged ones are moved aside; the run must be this process's.

    Raises:
        InputError: all are damaged.
    """
    processes.on_primary(lambda: set_damaged_aside(workdir / "checkpoints"))
    return Checkpoints(workdir / "checkpoints", keep_latest=keep_latest)


def open_scored_run(config: ConfigDict, workdir: Path) -> ScoredRun:
    """Open a run for scoring, which changes nothing of it: another process may be training it.

    Neither training pairs nor what is mixed into them are looked at.

    Args:
        config: the run's, from its config.json; where the data lies and what is scored may differ.
        workdir: the run's folder.

    Raises:
        InputError: something that the user can fix is wrong; for one, that the config describes another run.
    """
    check_config(config, num_devices=jax.device_count(), training=False)
    plain = to_plain(config)
    check_scoring(workdir, read_json(workdir / "config.json"), plain)
    use_compilation_cache(config.compilation_cache)
    model = build_model(**plain["model"], **plain["compute"])
    evaluator = open_evaluator(plain, model, opened={})
    agree(workdir, config, data_facts(evaluator.data_set, evaluator.protocols[0].sources))
    checkpoints = Checkpoints(workdir / "checkpoints", keep_latest=config.checkpoint.keep_latest, read_only=True)
    return ScoredRun(model=model, mesh=create_mesh(), evaluator=evaluator, checkpoints=checkpoints)


def open_training_data(
    data: dict[str, Any], options: InputOptions, crop: int
) -> tuple[dict[str, PairSource], tuple[Part, ...]]:
    """Return the sources of all splits, and what is mixed into training.

    Raises:
        InputError: a folder, a file, a pair or a split is wrong, in `data.root` or in what is mixed in.
    """
    form = {"resize": options.resize, "crop": options.frame_side(crop), "full_frames": options.reads_windows}
    mixed = [
        partial(open_part, entry, f"data.mixture[{i}]", options, skip_invalid=data["skip_bad"], crop=crop)
        for i, entry in enumerate(data["mixture"])
    ]
    sources, *parts = raise_together(lambda: open_data(data, **form), *mixed)
    if "train" not in sources:
        raise InputError("data.splits: 'none' leaves nothing to train on; it is for --mode evaluate with --weights.")
    scored = [source for split, source in sources.items() if split != "train"]
    parts = raise_together(*(partial(exclude_scored, part, scored) for part in parts))
    memory = ImageCache(int(data["keep_gib"] * 2**30))

    def keep(source: PairSource) -> PairSource:
        return source.with_reader(memory.read) if isinstance(source, FolderSource) else source

    kept = tuple(dataclasses.replace(part, source=keep(part.source)) for part in parts)
    return {**sources, "train": keep(sources["train"])}, kept


def fit_stages(plain: dict[str, Any], source: PairSource) -> list[Stage]:
    """Return the stages of a config for these training pairs.

    Raises:
        InputError: a batch holds more than all pairs, or a schedule does not fit into its stage.
    """
    epoch_steps = steps_per_epoch(len(source), plain["data"]["batch_size"], plain["data"]["epoch_images"])
    encoder = ENCODERS.get(plain["model"]["name"], "")
    return plan_stages(plain["stages"], epoch_steps, encoder=encoder, ema_decay=plain["ema_decay"])


def open_start(
    config: ConfigDict, workdir: Path, model: nn.Module, facts: dict[str, Any]
) -> tuple[InitialWeights | None, RunLock | None]:
    """Make or open the run's folder.

    A run that has a checkpoint goes on from it; the files that it started from may be gone.

    Returns:
        What the run starts from, None if it goes on from a checkpoint; and the folder's lock, in the primary.

    Raises:
        InputError: the weights to start from are missing or do not fit, another process owns the run, or the folder
            holds something else.
    """
    shapes = network_shapes(model)
    has_checkpoint = processes.on_primary(lambda: is_under_way(workdir))
    plain = to_plain(config)
    options = {key: value for key, value in plain["model"].items() if key != "name"}
    initial = None if has_checkpoint else read_initial_weights(config.model.name, plain["start"], shapes, options)
    facts = {
        **network_facts(config, shapes),
        "trained": True,
        "initial_weights": initial.description if initial else "",
        **facts,
    }
    return initial, claim_folder(workdir, config, facts, has_checkpoint=has_checkpoint)
