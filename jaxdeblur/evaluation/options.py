"""The options of evaluation, as the config has them."""

import dataclasses


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
