"""The demo's photographs: none is in two splits, under whatever name."""

import make_demo_data
import numpy as np
from PIL import Image

from jaxdeblur.data.folders import read_image


def test_no_photograph_is_in_two_splits():
    """scikit-image ships one photograph as `cat` and as `chelsea`; thumbnails tell such pairs."""
    thumbnails = {}
    for name, (split, source) in make_demo_data.PHOTOGRAPHS.items():
        image = Image.fromarray(make_demo_data.load_photograph(source)).convert("L").resize((16, 16))
        thumbnails[name] = split, np.asarray(image, float)
    train, test = ({n: t for n, (s, t) in thumbnails.items() if s == split} for split in ("train", "test"))
    assert len(train) == 11
    assert len(test) == 3
    for name, thumbnail in test.items():
        for other, seen in train.items():
            assert np.abs(thumbnail - seen).mean() > 10, (name, other)


def test_a_sequence_is_made_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr(make_demo_data, "FRAMES", {"train": 1, "test": 1})
    for folder in ("first", "second"):
        make_demo_data.make_sequence("chelsea", tmp_path / folder)
    first, second = (tmp_path / folder / "test" / "chelsea" for folder in ("first", "second"))
    for variant in ("blur", "sharp"):
        assert (first / variant / "000001.png").read_bytes() == (second / variant / "000001.png").read_bytes()
        assert read_image(first / variant / "000001.png").shape == (240, 240, 3)
