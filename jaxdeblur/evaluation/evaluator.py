"""Judging a network: which pairs by which protocols, what is written, and what is noted when the test split is seen.

A protocol is named by its resolution: `256` is the whole frame resized to 256x256, `full` the frame as it is.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from jaxdeblur.console import say
from jaxdeblur.data.pipeline import InputOptions, make_eval_pairs
from jaxdeblur.data.sources import DataOptions, PairSource, name_data_set, open_scored_sources
from jaxdeblur.errors import raise_together
from jaxdeblur.evaluation import scoring
from jaxdeblur.evaluation.lpips import read_lpips
from jaxdeblur.evaluation.scoring import Evaluation, Measures
from jaxdeblur.files import read_json, write_json
from jaxdeblur.restoration.predictor import Predictor
from jaxdeblur.runs.lock import wait_for_lock
from jaxdeblur.runtime import processes
from jaxdeblur.runtime.sharding import create_mesh, replicated
from jaxdeblur.weights.tensors import fingerprint

SCORED_SPLITS = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What is scored.

    Attributes:
        protocols: `full`, or the size that frames are resized to, as `256`. The first one validates training.
        lpips: file of LPIPS weights; "": LPIPS is not measured.
        batch_size: images per batch, over all devices; does not change the scores.
        sample_count: sample images to keep.
    """

    protocols: tuple[str, ...]
    lpips: str
    batch_size: int
    sample_count: int


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How pairs are prepared, and which they are by split: `validation`, if there is one, and `test`."""

    options: InputOptions
    sources: dict[str, PairSource]

    @property
    def name(self) -> str:
        """`full`, or the side in pixels that whole frames are resized to."""
        return str(self.options.resize) if self.options.resize else "full"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Variables of a network, and what records say of them.

    Attributes:
        variables: whole on every device.
        words: where they come from.
        step: of the checkpoint; None for a file.
    """

    variables: Any
    words: str
    step: int | None


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """All that scoring needs. The first protocol is that of validation while training."""

    protocols: tuple[Protocol, ...]
    predict: Predictor
    local_mesh: jax.sharding.Mesh  # this process's own devices
    data_set: str
    splits: str
    blur: str
    batch_size: int
    sample_count: int
    num_threads: int
    lpips: scoring.metrics.Score | None

    def score(self, protocol: Protocol, split: str, variables: Any, *, quick: bool = False) -> Evaluation:
        """Score a split with the given weights: every process its share, on its own devices.

        `quick` leaves out what takes long to measure: SSIM and LPIPS.
        """
        source = protocol.sources[split]
        first, end = processes.share(len(source))
        own = processes.local_copy(variables, replicated(self.local_mesh))
        self.predict.restart()
        parts = processes.gather_results(
            lambda: scoring.evaluate(
                self.predict,
                own,
                make_eval_pairs(source, protocol.options, num_threads=self.num_threads, first=first, end=end),
                num_pairs=len(source),
                batch_size=self.batch_size // jax.process_count(),
                sample_count=self.sample_count,
                measures=Measures(similarity=not quick, lpips=None if quick else self.lpips),
                num_threads=self.num_threads,
                first=first,
            )
        )
        return scoring.join_parts(parts)

    def add_extremes(self, protocol: Protocol, split: str, variables: Any, result: Evaluation) -> None:
        """Add the images with the best, the median and the worst gain to the samples; in one process alone."""
        wanted = scoring.find_extremes(result.images)
        source = protocol.sources[split].select(lambda *name: name in wanted.values())
        found = scoring.evaluate(
            self.predict,
            processes.local_copy(variables, replicated(self.local_mesh)),
            make_eval_pairs(source, protocol.options, num_threads=self.num_threads),
            num_pairs=len(source),
            batch_size=self.batch_size // jax.process_count(),
            sample_count=len(source),
            measures=Measures(similarity=False, lpips=None),
            num_threads=self.num_threads,
        )
        samples = {(sample["sequence"], sample["frame"]): sample for sample in result.samples}
        for sample in found.samples:
            name = (sample["sequence"], sample["frame"])
            known = samples.setdefault(name, {**sample, "why": []})
            known["why"] += [why for why, chosen in wanted.items() if chosen == name]
        result.samples[:] = samples.values()

    def protocol_record(self, protocol: Protocol, split: str, chosen: Weights, sha256: str) -> dict[str, Any]:
        """Return what a record says of how its numbers came to be."""
        source = protocol.sources[split]
        return scoring.make_protocol(
            protocol.options,
            data_set=self.data_set,
            split=split,
            splits=self.splits,
            blur=self.blur,
            num_images=len(source),
            num_skipped=len(source.skipped),
            weights=chosen.words,
            weights_sha256=sha256,
            checkpoint_step=chosen.step,
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
        opened: sources that are open already, by the size that frames are resized to.

    Raises:
        InputError: a folder, a file, a pair, a split or the LPIPS weights are invalid.
    """
    sizes = [0 if name == "full" else int(name) for name in options.protocols]
    missing = [size for size in dict.fromkeys(sizes) if size not in opened]
    newly = raise_together(
        *(partial(open_scored_sources, data, resize=size, resize_filter=resize_filter) for size in missing)
    )
    sources = {**opened, **dict(zip(missing, newly, strict=True))}
    protocols = tuple(
        Protocol(
            InputOptions(size, resize_filter, flip_and_turn=False),
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
        splits=data.splits,
        blur=data.blur,
        batch_size=options.batch_size,
        sample_count=options.sample_count,
        num_threads=num_threads,
        lpips=read_lpips(Path(options.lpips).expanduser()) if options.lpips else None,
    )


def evaluate_network(evaluator: Evaluator, folder: Path, chosen: Weights, *, history: Path, again: bool) -> None:
    """Score weights on all splits by all protocols and write the records; what is scored already stays unless `again`.

    Args:
        evaluator: what to score on.
        folder: where the records go.
        chosen: the weights.
        history: file that each scoring of the test split is noted in.
        again: score anew what the records hold already.
    """
    sha256 = fingerprint(jax.device_get(chosen.variables))
    for protocol in evaluator.protocols:
        for split in protocol.sources:
            record = evaluator.protocol_record(protocol, split, chosen, sha256)
            path = scoring.evaluation_path(folder, record)
            if not again and processes.on_primary(lambda: _is_scored(path, sha256)):  # noqa: B023 -- called at once
                continue
            images = f"the {len(protocol.sources[split])} {split} images"
            say(f"Scoring {chosen.words} on {images}, protocol {protocol.name}.")
            if split == "test":
                processes.on_primary(lambda: _note_test(history, record))  # noqa: B023 -- called at once
            result = evaluator.score(protocol, split, chosen.variables)
            speed = evaluator.predict.speed
            if processes.is_primary():
                evaluator.add_extremes(protocol, split, chosen.variables, result)
                scoring.write_evaluation(path, record, result, speed)


def _is_scored(path: Path, weights_sha256: str) -> bool:
    return path.exists() and read_json(path)["protocol"]["weights_sha256"] == weights_sha256


def _note_test(history: Path, record: dict[str, Any]) -> None:
    """Note that the test split is about to be seen: choosing by what it says would make it a validation split."""
    kept = ("date", "resolution", "checkpoint_step", "weights_sha256")
    history.parent.mkdir(parents=True, exist_ok=True)
    with wait_for_lock(history.parent):  # a run's training may end while --mode evaluate scores it
        before = read_json(history) if history.exists() else []
        write_json(history, [*before, {key: record[key] for key in kept}])
