"""Writes a page of photographs blurred, restored and sharp, with their PSNR: a single HTML file that opens offline."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdeblur.evaluation.metrics import psnr_from_mse
from jaxdeblur.report.image_strips import Picture, Strip, make_strip
from jaxdeblur.report.render import environment, strip_style


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One photograph in three versions, uint8 RGB (H, W, 3) of one size.

    Attributes:
        name: of the photograph.
        blur: a short description of its blur.
        blurred: the input.
        restored: the network's result.
        sharp: the target.
    """

    name: str
    blur: str
    blurred: np.ndarray
    restored: np.ndarray
    sharp: np.ndarray

    @property
    def psnr(self) -> tuple[float, float]:
        """PSNR of the blurred and of the restored image, dB."""
        return _psnr(self.blurred, self.sharp), _psnr(self.restored, self.sharp)


def write_before_after(
    comparisons: Sequence[Comparison], output: Path, *, title: str, introduction: Sequence[str], network: str
) -> str:
    """Write the page and return its verdict, a sentence with the mean gain.

    Args:
        comparisons: at least one.
        output: the `.html` file; overwritten if it exists.
        title: of the page.
        introduction: paragraphs below the title.
        network: its name, shown above the restored images.
    """
    scores = np.array([comparison.psnr for comparison in comparisons])
    blurred, restored = scores.mean(0)
    better = int((scores[:, 1] > scores[:, 0]).sum())
    verdict = (
        f"{network}: {blurred:.2f} dB blurred, {restored:.2f} dB restored ({restored - blurred:+.2f} dB), mean of "
        f"{len(scores)} images, of which {better} improved."
    )
    page = (
        environment()
        .get_template("before_after.html.jinja")
        .render(
            title=title,
            introduction=introduction,
            verdict=verdict,
            strips=[_strip(comparison, network) for comparison in comparisons],
            **strip_style(),
        )
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    return verdict


def _strip(comparison: Comparison, network: str) -> Strip:
    blurred, restored = comparison.psnr
    pictures = (
        Picture("blurred", comparison.blurred, blurred),
        Picture(f"restored by {network}", comparison.restored, restored),
        Picture("sharp", comparison.sharp, None),
    )
    return make_strip((comparison.name, comparison.blur), "synthetic blur", pictures)


def _psnr(image: np.ndarray, sharp: np.ndarray) -> float:
    return psnr_from_mse(float(np.mean(np.square((image.astype(np.float64) - sharp) / 255))))
