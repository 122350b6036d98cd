"""A source whose pixels identify pair, row and column, and batches drawn from it."""

import hashlib
from collections.abc import Sequence

import numpy as np

from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.mixture import Part
from jaxdeblur.data.pipeline import BatchOptions, make_train_batches

PLAIN = InputOptions(resize=0, resize_filter="bicubic", flip_and_rotate=False)
AUGMENTED = InputOptions(resize=0, resize_filter="bicubic", flip_and_rotate=True)


class NumberedSource:
    """Ten pairs of 32x32 pixels that encode (20 * pair, 4 * row, 4 * column); sharp is blur plus one."""

    sizes = [(32, 32)] * 10

    def __init__(self):
        self.rows, self.columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.read(index, np.s_[:, :])

    def read(self, index, window):
        """Return a pair as a `PairSource` does."""
        blur = np.stack([np.full((32, 32), 20 * index), 4 * self.rows, 4 * self.columns], axis=-1).astype(np.uint8)
        return {"blur": blur[window], "sharp": blur[window] + 1, "sequence": "s", "frame": str(index)}


def batches(
    source,
    options: InputOptions,
    count: int,
    *,
    crop: int = 0,
    batch_size: int = 3,
    seed: int = 0,
    num_threads: int = 2,
    process_index: int = 0,
    processes: int = 1,
    first_step: int = 0,
    mixture: Sequence[Part] = (),
) -> list[dict]:
    """Return the first `count` batches from `first_step` on."""
    batch_options = BatchOptions(crop, batch_size, seed, num_threads, process_index, processes)
    iterator = make_train_batches(source, options, batch_options, first_step=first_step, mixture=mixture)
    return [next(iterator) for _ in range(count)]


def digests(drawn: list[dict]) -> list[str]:
    """Return the SHA-256 of each batch."""
    return [hashlib.sha256(batch["blur"].tobytes() + batch["sharp"].tobytes()).hexdigest() for batch in drawn]
