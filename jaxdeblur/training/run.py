"""What training and scoring a run need, checked and made once."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax

from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.mixture import Part
from jaxdeblur.data.pair_source import ImagePair, PairSource
from jaxdeblur.data.pipeline import BatchOptions, make_train_batches
from jaxdeblur.evaluation.evaluator import Evaluator
from jaxdeblur.evaluation.scoring import Evaluation
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.lock import RunLock
from jaxdeblur.runs.metric_log import MetricLog
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.runtime.sharding import abstract
from jaxdeblur.training.stages import Stage
from jaxdeblur.weights.initial import InitialWeights


@dataclasses.dataclass
class ScoredRun:
    """What scoring a run's checkpoints needs."""

    model: nn.Module
    mesh: jax.sharding.Mesh
    evaluator: Evaluator
    checkpoints: Checkpoints

    def abstract_variables(self) -> Any:
        """Return stand-ins for the network's variables, with their place on the devices."""
        return abstract(lambda: init_variables(self.model, jax.random.key(0)), self.mesh)

    def validate(self, variables: Any) -> Evaluation:
        """Score the validation split by the first protocol, with what is measured quickly."""
        return self.evaluator.score(self.evaluator.protocols[0], "validation", variables, quick=True)


@dataclasses.dataclass
class Run(ScoredRun):
    """All that training and scoring need, checked and made once; it owns its folder until `release`."""

    stages: list[Stage]
    source: PairSource  # training pairs
    dtype: str  # that the network computes in
    options: InputOptions
    mixture: tuple[Part, ...]  # further training pairs
    seed: int
    batch_size: int
    num_threads: int
    log_every_steps: int
    profile_steps: int
    initial: InitialWeights | None  # None: the run goes on from a checkpoint
    lock: RunLock | None  # the primary's alone
    initial_words: str = ""  # what the run started from, as its checkpoints say
    log: MetricLog | None = None  # the primary's alone

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return self.stages[0].steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return self.stages[-1].end_step

    def release(self) -> None:
        """Let another process own the run."""
        if self.lock:
            self.lock.release()

    def train_batches(self, stage: Stage, *, first_step: int) -> Iterator[ImagePair]:
        """Return this process's part of the batches of a stage, from the one of `first_step` on."""
        return make_train_batches(
            self.source,
            self.options,
            BatchOptions(
                crop=stage.crop,
                batch_size=self.batch_size,
                seed=self.seed,
                num_threads=self.num_threads,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            ),
            first_step=first_step,
            mixture=self.mixture,
        )
