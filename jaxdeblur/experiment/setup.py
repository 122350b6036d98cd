"""Opens a run: checks config, data and folder before anything is compiled. Batches are uint8 NHWC RGB."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from jaxdeblur.config.run_config import RunConfig, parse_config
from jaxdeblur.config.saved_run import read_config
from jaxdeblur.data.array_records import ArrayRecordSource
from jaxdeblur.data.image_cache import ImageCache
from jaxdeblur.data.mixture import Part, exclude_scored, open_part
from jaxdeblur.data.pair_source import PairSource
from jaxdeblur.data.paired_folders import FolderSource
from jaxdeblur.data.pipeline import check_sizes, steps_per_epoch
from jaxdeblur.data.sources import open_sources
from jaxdeblur.errors import InputError, raise_together
from jaxdeblur.evaluation.evaluator import Evaluator, Weights, open_evaluator
from jaxdeblur.experiment.config_changes import check_scoring
from jaxdeblur.experiment.run_identity import check_agreement, claim_folder_in_primary, data_facts, network_facts
from jaxdeblur.files import require_utf8
from jaxdeblur.models import ENCODERS
from jaxdeblur.runs.checkpoint_files import quarantine_corrupt
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.folder import is_under_way
from jaxdeblur.runs.lock import RunLock
from jaxdeblur.runtime import processes
from jaxdeblur.runtime.compilation import use_compilation_cache
from jaxdeblur.runtime.sharding import create_mesh, replicated
from jaxdeblur.training.run import Run, ScoredRun
from jaxdeblur.training.stages import Stage, plan_stages
from jaxdeblur.weights.initial import InitialWeights, read_initial_weights
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.tensors import check_fit, network_shapes

Sources = dict[str, PairSource]


def open_run(config: ConfigDict, workdir: Path) -> Run:
    """Check config, data and folder, in this order; this process then owns the run.

    Raises:
        InputError: the user can fix what is wrong, for example that another process owns the run.
    """
    require_utf8(workdir, "--workdir")
    parsed = parse_config(config, num_devices=jax.device_count(), training=True)
    use_compilation_cache(parsed.compilation_cache)
    model = parsed.model.build()
    sources, mixture = open_training_data(parsed)
    source, crops = sources["train"], [stage.crop for stage in parsed.stages]
    # Training may read windows of full frames while scoring reads frames that were resized in advance, much faster.
    reads_windows = parsed.inputs.reads_windows and isinstance(source, ArrayRecordSource)
    opened = {} if reads_windows else {parsed.inputs.resize: sources}
    evaluator = open_evaluation(parsed, model, opened)
    _, stages = raise_together(
        lambda: check_sizes(source, parsed.inputs, crops, mixture), lambda: fit_stages(parsed, source)
    )
    facts = {**data_facts(evaluator.data_set, sources, mixture), "steps_per_epoch": stages[0].steps_per_epoch}
    initial, lock = claim_run(parsed, workdir, model, facts)
    try:
        checkpoints = open_checkpoints(workdir, parsed.keep_latest)
    except BaseException:
        if lock:
            lock.release()
        raise
    return Run(
        model=model,
        stages=stages,
        source=source,
        dtype=parsed.model.compute["dtype"],
        options=parsed.inputs,
        mixture=mixture,
        seed=parsed.seed,
        batch_size=parsed.loading.batch_size,
        num_threads=parsed.loading.num_threads,
        log_every_steps=parsed.log_every_steps,
        profile_steps=parsed.profile_steps,
        mesh=create_mesh(),
        evaluator=evaluator,
        initial=initial,
        lock=lock,
        checkpoints=checkpoints,
    )


def open_evaluation(config: RunConfig, model: nn.Module, opened: dict[int, Sources] | None = None) -> Evaluator:
    """Open the data of all protocols; `opened` has sources that are already open, by the size frames are resized to.

    Raises:
        InputError: a folder, a file, a pair, a split or the LPIPS weights are invalid.
    """
    return open_evaluator(
        config.evaluation,
        config.data,
        model,
        resize_filter=config.inputs.resize_filter,
        num_threads=config.loading.num_threads,
        opened=opened or {},
    )


def open_checkpoints(workdir: Path, keep_latest: int) -> Checkpoints:
    """Open a run's checkpoints for writing, after moving corrupt ones aside; this process must own the run.

    Raises:
        InputError: all are corrupt.
    """
    processes.on_primary(lambda: quarantine_corrupt(workdir / "checkpoints"))
    return Checkpoints(workdir / "checkpoints", keep_latest=keep_latest)


def open_scored_run(config: ConfigDict, workdir: Path) -> ScoredRun:
    """Open a run read-only for scoring; another process may be training it. Training pairs are not opened.

    Args:
        config: the run's, from its config.json; data folder and `evaluation` may differ.
        workdir: the run's folder.

    Raises:
        InputError: the user can fix what is wrong, for example that the config describes another run.
    """
    parsed = parse_config(config, num_devices=jax.device_count(), training=False)
    check_scoring(workdir, read_config(workdir), parsed.tree)
    use_compilation_cache(parsed.compilation_cache)
    model = parsed.model.build()
    evaluator = open_evaluation(parsed, model)
    check_agreement(workdir, parsed, data_facts(evaluator.data_set, evaluator.protocols[0].sources))
    checkpoints = Checkpoints(workdir / "checkpoints", keep_latest=parsed.keep_latest, read_only=True)
    return ScoredRun(model=model, mesh=create_mesh(), evaluator=evaluator, checkpoints=checkpoints)


def open_scored_weights(config: ConfigDict, workdir: Path, path: Path) -> tuple[Evaluator, Weights, RunLock | None]:
    """Open weights and data for scoring into a separate folder, which this process then owns.

    Args:
        config: names the network and the data.
        workdir: the folder for the scores; new, or holding earlier scores.
        path: a `.safetensors` or another run's folder.

    Returns:
        The evaluator, the weights and, in the primary process, the folder's lock.

    Raises:
        InputError: the user can fix what is wrong.
    """
    network = load_network(path)
    if network.is_from_torch:  # the file decides on the architecture
        config = config.copy_and_resolve_references()
        with config.unlocked(), config.ignore_type():
            config.model = {"name": network.name, **network.options}
    parsed = parse_config(config, num_devices=jax.device_count(), training=False)
    use_compilation_cache(parsed.compilation_cache)
    if any((workdir / "checkpoints").glob("*")):
        raise InputError(
            f"--workdir: {workdir} holds a trained run. Choose another folder for the scores of --weights.",
            code="workdir-holds-a-run",
        )
    model = parsed.model.build()
    shapes = network_shapes(model)
    check_fit(path, network.variables, shapes)
    evaluator = open_evaluation(parsed, model)
    facts = {
        **network_facts(parsed.model, shapes),
        "trained": False,
        "initial_weights": f"not trained here; {network.description}",
        **data_facts(evaluator.data_set, evaluator.protocols[0].sources),
    }
    lock = claim_folder_in_primary(workdir, parsed, facts, has_checkpoint=False)
    variables = jax.device_put(network.variables, replicated(evaluator.local_mesh))
    return evaluator, Weights(variables, network.description, step=None), lock


def open_training_data(config: RunConfig) -> tuple[Sources, tuple[Part, ...]]:
    """Return the sources of all splits, and the other sources that are mixed into training.

    Raises:
        InputError: a folder, a file, a pair or a split is invalid, in `data.root` or in the mixture.
    """
    inputs, skip_invalid = config.inputs, config.data.skip_invalid
    crop = max(stage.crop for stage in config.stages)
    main = partial(
        open_sources,
        config.data,
        resize=inputs.resize,
        resize_filter=inputs.resize_filter,
        crop=inputs.frame_side(crop),
        full_frames=inputs.reads_windows,
    )
    mixed = [
        partial(open_part, entry, f"data.mixture[{i}]", skip_invalid=skip_invalid, crop=crop)
        for i, entry in enumerate(config.mixture)
    ]
    sources, *parts = raise_together(main, *mixed)
    if "train" not in sources:
        raise InputError(
            "data.splits: 'none' leaves no training pairs; it is for --mode evaluate with --weights.",
            code="no-training-pairs",
        )
    scored = [source for split, source in sources.items() if split != "train"]
    parts = raise_together(*(partial(exclude_scored, part, scored) for part in parts))
    cache = ImageCache(int(config.loading.cache_gib * 2**30))

    def with_cache(source: PairSource) -> PairSource:
        return source.with_reader(cache.read) if isinstance(source, FolderSource) else source

    cached = tuple(dataclasses.replace(part, source=with_cache(part.source)) for part in parts)
    return {**sources, "train": with_cache(sources["train"])}, cached


def fit_stages(config: RunConfig, source: PairSource) -> list[Stage]:
    """Return the stages of a config for these training pairs.

    Raises:
        InputError: a batch is larger than the data, or a schedule does not fit into its stage.
    """
    epoch_steps = steps_per_epoch(len(source), config.loading.batch_size, config.loading.epoch_images)
    encoder = ENCODERS.get(config.model.name, "")
    return plan_stages(config.stages, epoch_steps, encoder=encoder, ema_decay=config.ema_decay)


def claim_run(
    config: RunConfig, workdir: Path, model: nn.Module, facts: dict[str, Any]
) -> tuple[InitialWeights | None, RunLock | None]:
    """Create or open the run's folder.

    A run with a checkpoint resumes from it; the files that it started from may be gone.

    Returns:
        The weights to start from, None if the run resumes; and, in the primary process, the folder's lock.

    Raises:
        InputError: the weights to start from are missing or do not fit, another process owns the run, or the folder
            holds something else.
    """
    shapes = network_shapes(model)
    has_checkpoint = processes.on_primary(lambda: is_under_way(workdir))
    initial = None
    if not has_checkpoint:
        start = dataclasses.asdict(config.init)
        initial = read_initial_weights(config.model.name, start, shapes, config.model.options)
    facts = {
        **network_facts(config.model, shapes),
        "trained": True,
        "initial_weights": initial.description if initial else "",
        **facts,
    }
    return initial, claim_folder_in_primary(workdir, config, facts, has_checkpoint=has_checkpoint)
