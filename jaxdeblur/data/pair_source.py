"""The interface of all sources of image pairs: random access, plus names, sizes and hashes without reading pixels."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict

import numpy as np

Window = tuple[slice, slice]  # rows, columns
WHOLE: Window = np.s_[:, :]
IMAGE_KEYS = ("blur", "sharp")

PairName = tuple[str, str]  # (sequence, frame)
KeepPair = Callable[[str, str], bool]  # of (sequence, frame)


class ImagePair(TypedDict):
    """A blurry and a sharp image, uint8 RGB (H, W, 3); may be read-only views."""

    blur: np.ndarray
    sharp: np.ndarray


class NamedPair(ImagePair):
    """An image pair with its name."""

    sequence: str
    frame: str


class PairSource(Protocol):
    """Random access to image pairs, sorted by sequence, then frame.

    Attributes:
        skipped: (sequence, frame) of pairs left out as invalid.
    """

    skipped: Sequence[PairName]

    @property
    def names(self) -> list[PairName]:
        """(sequence, frame) of each pair."""

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each pair."""

    @property
    def digests(self) -> list[tuple[str, str]]:
        """SHA-256 of each pair's blurry and sharp image file."""

    def __len__(self) -> int:
        """Return the number of pairs."""

    def __getitem__(self, index: int) -> NamedPair:
        """Return a pair at full size."""

    def read(self, index: int, window: Window) -> NamedPair:
        """Return a pair cropped to a window of rows and columns."""

    def select(self, keep: KeepPair) -> "PairSource":
        """Return a source of the pairs for whose (sequence, frame) `keep` is true."""

    def fingerprint(self) -> str:
        """Return the SHA-256 of the pairs, see `fingerprint`."""


def fingerprint(names: Sequence[PairName], digests: Sequence[tuple[str, str]]) -> str:
    """Return a SHA-256 over pairs, the same wherever and in whichever format they are stored.

    Args:
        names: (sequence, frame) of each pair.
        digests: SHA-256 of its blurry and its sharp image file.
    """
    digest = hashlib.sha256()
    for name, files in zip(names, digests, strict=True):
        digest.update(("/".join((*name, *files)) + "\n").encode())
    return digest.hexdigest()
