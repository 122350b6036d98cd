"""Evaluates a network on every split and protocol, writes the records and logs each use of the test split.

A protocol is named by its resolution: `256` is the whole frame resized to 256x256, `full` the frame at its own size.
"""

import dataclasses
import datetime
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from jaxdeblur.console import say
from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.pair_source import PairSource
from jaxdeblur.data.pipeline import make_eval_pairs
from jaxdeblur.data.sources import DataOptions, name_data_set, open_scored_sources
from jaxdeblur.errors import raise_together
from jaxdeblur.evaluation import scoring
from jaxdeblur.evaluation.lpips import read_lpips
from jaxdeblur.evaluation.metrics import Metric
from jaxdeblur.evaluation.options import EvaluationOptions
from jaxdeblur.evaluation.scoring import Evaluation, ScoringOptions
from jaxdeblur.evaluation.test_history import log_test_use
from jaxdeblur.files import read_json
from jaxdeblur.restoration.predictor import Predictor
from jaxdeblur.runs.environment import code_version
from jaxdeblur.runs.folder import SCORED_SPLITS
from jaxdeblur.runs.records import ProtocolRecord, SpeedRecord
from jaxdeblur.runtime import processes
from jaxdeblur.runtime.sharding import create_mesh, replicated
from jaxdeblur.weights.tensors import fingerprint


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How pairs are prepared, and the pairs of each split: `test` and, if there is one, `validation`."""

    options: InputOptions
    sources: dict[str, PairSource]

    @property
    def name(self) -> str:
        """`full`, or the size in pixels that whole frames are resized to."""
        return str(self.options.resize) if self.options.resize else "full"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Variables of a network, and what records state about them.

    Attributes:
        variables: replicated over all devices.
        origin: where they come from, for records and messages.
        step: of the checkpoint; None for a file.
    """

    variables: Any
    origin: str
    step: int | None


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A network's predictor and the data to evaluate it on.

    Attributes:
        protocols: the first one is used for validation during training.
        predict: the network.
        local_mesh: this process's devices.
        data_set: its name, for records.
        split_rule: how sequences are assigned to splits, for records.
        blur_variant: GOPRO's `blur` or `blur_gamma`, for records.
        batch_size: images per batch, over all processes.
        sample_count: evenly spaced images of a split to save.
        num_threads: for reading images and computing metrics.
        lpips: None to leave LPIPS out.
    """

    protocols: tuple[Protocol, ...]
    predict: Predictor
    local_mesh: jax.sharding.Mesh
    data_set: str
    split_rule: str
    blur_variant: str
    batch_size: int
    sample_count: int
    num_threads: int
    lpips: Metric | None

    def score(self, protocol: Protocol, split: str, variables: Any, *, quick: bool = False) -> Evaluation:
        """Score a split; each process scores its share on its own devices and returns the whole result.

        Args:
            protocol: one of `protocols`.
            split: one of the protocol's.
            variables: replicated over the devices of all processes.
            quick: skip the slow metrics, SSIM and LPIPS.
        """
        source = protocol.sources[split]
        start, stop = processes.shard_bounds(len(source))
        local_variables = processes.to_local_devices(variables, replicated(self.local_mesh))
        self.predict.restart()
        sample_indices = scoring.spread_indices(len(source), self.sample_count)
        parts = processes.gather_results(
            lambda: scoring.evaluate(
                self.predict,
                local_variables,
                make_eval_pairs(source, protocol.options, num_threads=self.num_threads, first=start, end=stop),
                self._scoring_options(slow_metrics=not quick),
                sample_indices={index - start for index in sample_indices},
            )
        )
        return scoring.join_parts(parts)

    def with_extremes(self, protocol: Protocol, split: str, variables: Any, result: Evaluation) -> Evaluation:
        """Return the evaluation with the images of best, median and worst gain among its samples.

        Recomputes the predictions of these images. Call it in the primary process only.
        """
        extremes = scoring.find_extremes(result.images)
        source = protocol.sources[split].select(lambda *name: name in extremes.values())
        predicted = scoring.evaluate(
            self.predict,
            processes.to_local_devices(variables, replicated(self.local_mesh)),
            make_eval_pairs(source, protocol.options, num_threads=self.num_threads),
            self._scoring_options(slow_metrics=False),
            sample_indices=range(len(source)),
        )
        samples = {sample.name: sample for sample in result.samples}
        for sample in predicted.samples:
            kinds = tuple(kind for kind, name in extremes.items() if name == sample.name)
            existing = samples.get(sample.name)
            samples[sample.name] = (
                dataclasses.replace(existing, why=existing.why + kinds)
                if existing
                else dataclasses.replace(sample, why=kinds)
            )
        return dataclasses.replace(result, samples=list(samples.values()))

    def protocol_record(self, protocol: Protocol, split: str, weights: Weights, sha256: str) -> ProtocolRecord:
        """Return how the numbers of an evaluation are obtained; `sha256` is the fingerprint of the weights."""
        source, options = protocol.sources[split], protocol.options
        return ProtocolRecord(
            data_set=self.data_set,
            split=split,
            split_rule=self.split_rule,
            blur_variant=self.blur_variant,
            resolution=protocol.name,
            resize_filter=options.resize_filter if options.resize else "none",
            number_of_images=len(source),
            pairs_skipped=len(source.skipped),
            weights=weights.origin,
            weights_sha256=sha256,
            checkpoint_step=weights.step,
            code_version=code_version(),
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def _scoring_options(self, *, slow_metrics: bool) -> ScoringOptions:
        return ScoringOptions(
            batch_size=self.batch_size // jax.process_count(),
            num_threads=self.num_threads,
            similarity=slow_metrics,
            lpips=self.lpips if slow_metrics else None,
        )


def open_evaluator(
    options: EvaluationOptions,
    data: DataOptions,
    model: nn.Module,
    *,
    resize_filter: str,
    num_threads: int,
    opened: dict[int, dict[str, PairSource]],
) -> Evaluator:
    """Open the data of all protocols.

    Args:
        options: what is scored.
        data: which pairs.
        model: the network.
        resize_filter: name of Pillow's filter for protocols that resize frames.
        num_threads: threads that read images.
        opened: sources that are open already, by the size that frames are resized to; 0: not resized.

    Raises:
        InputError: a folder, a file, a pair, a split or the LPIPS weights are invalid.
    """
    sizes = [0 if name == "full" else int(name) for name in options.protocols]
    missing = [size for size in dict.fromkeys(sizes) if size not in opened]
    opened_now = raise_together(
        *(partial(open_scored_sources, data, resize=size, resize_filter=resize_filter) for size in missing)
    )
    sources = {**opened, **dict(zip(missing, opened_now, strict=True))}
    protocols = tuple(
        Protocol(
            InputOptions(size, resize_filter, flip_and_rotate=False),
            {split: sources[size][split] for split in SCORED_SPLITS if split in sources[size]},
        )
        for size in sizes
    )
    local_mesh = create_mesh(jax.local_devices())
    return Evaluator(
        protocols=protocols,
        predict=Predictor(model, local_mesh, batch_size=options.batch_size // jax.process_count()),
        local_mesh=local_mesh,
        data_set=name_data_set(data.root, protocols[0].sources["test"]),
        split_rule=data.splits,
        blur_variant=data.blur_variant,
        batch_size=options.batch_size,
        sample_count=options.sample_count,
        num_threads=num_threads,
        lpips=read_lpips(Path(options.lpips).expanduser()) if options.lpips else None,
    )


def evaluate_network(evaluator: Evaluator, folder: Path, weights: Weights, *, overwrite: bool) -> None:
    """Score weights on all splits by all protocols and write the records.

    Args:
        evaluator: what to score on.
        folder: for the records and the history of the test split.
        weights: to evaluate.
        overwrite: rescore weights that a record in `folder` already has.
    """
    sha256 = fingerprint(jax.device_get(weights.variables))
    for protocol in evaluator.protocols:
        for split in protocol.sources:
            record = evaluator.protocol_record(protocol, split, weights, sha256)
            path = scoring.evaluation_path(folder, record)
            if not overwrite and processes.on_primary(partial(_is_scored, path, sha256)):
                continue
            images = f"the {len(protocol.sources[split])} {split} images"
            say(f"Scoring {weights.origin} on {images}, protocol {protocol.name}.")
            if split == "test":
                processes.on_primary(partial(log_test_use, folder, record))
            result = evaluator.score(protocol, split, weights.variables)
            speed = SpeedRecord(**evaluator.predict.speed)
            if processes.is_primary():
                result = evaluator.with_extremes(protocol, split, weights.variables, result)
                scoring.write_evaluation(path, record, result, speed)


def _is_scored(path: Path, weights_sha256: str) -> bool:
    return path.exists() and read_json(path).get("protocol", {}).get("weights_sha256") == weights_sha256
