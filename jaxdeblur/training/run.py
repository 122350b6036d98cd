"""What training and scoring a run need; `experiment.setup` checks and opens it."""

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
        """Return the shapes, dtypes and shardings of the network's variables."""
        return abstract(lambda: init_variables(self.model, jax.random.key(0)), self.mesh)

    def validate(self, variables: Any) -> Evaluation:
        """Score the validation split by the first protocol, with the fast metrics only."""
        return self.evaluator.score(self.evaluator.protocols[0], "validation", variables, quick=True)


@dataclasses.dataclass
class Run(ScoredRun):
    """What training needs; it owns its folder until `release`."""

    stages: list[Stage]
    source: PairSource  # training pairs
    dtype: str  # of the network's activations
    options: InputOptions
    mixture: tuple[Part, ...]  # further training pairs
    seed: int
    batch_size: int
    num_threads: int
    log_every_steps: int
    profile_steps: int
    initial: InitialWeights | None  # None: the run resumes from a checkpoint
    lock: RunLock | None  # in the primary process only
    initial_description: str = ""  # what the run started from, as its checkpoints state
    log: MetricLog | None = None  # in the primary process only

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return self.stages[0].steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return self.stages[-1].end_step

    def release(self) -> None:
        """Release the run's lock."""
        if self.lock:
            self.lock.release()

    def train_batches(self, stage: Stage, *, first_step: int) -> Iterator[ImagePair]:
        """Return this process's share of the batches of a stage, starting after `first_step` steps of the run."""
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
