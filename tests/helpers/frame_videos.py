"""A short clip of noise frames and its lossless video."""

from pathlib import Path

import numpy as np
import pytest

CLIP = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), np.uint8)


def write_video(path: Path) -> None:
    """Write CLIP as a lossless video; skips the test without PyAV."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=240, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "rgb24"
        for frame in CLIP:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
