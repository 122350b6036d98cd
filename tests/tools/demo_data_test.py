"""The demo's photos: none is in two splits under different names or was used to train the shipped network."""

import csv
import hashlib
import re
from pathlib import Path

import make_demo_data
import numpy as np
import restore_demo_photographs
import skimage.data
import sklearn.datasets
from PIL import Image

from jaxdeblur.data.paired_folders import read_image
from tests.helpers.paths import ROOT

PHOTOGRAPHS_TSV = ROOT / "docs" / "photographs.tsv"


def test_no_photo_is_in_two_splits():
    """scikit-image ships one photo as `cat` and as `chelsea`; thumbnails reveal such pairs."""
    thumbnails = {}
    for name, (split, source) in make_demo_data.PHOTOS.items():
        image = Image.fromarray(make_demo_data.load_photo(source)).convert("L").resize((16, 16))
        thumbnails[name] = split, np.asarray(image, float)
    train, test = ({n: t for n, (s, t) in thumbnails.items() if s == split} for split in ("train", "test"))
    assert len(train) == 9
    assert len(test) == 5
    for name, thumbnail in test.items():
        for other, seen in train.items():
            assert np.abs(thumbnail - seen).mean() > 10, (name, other)


def test_shipped_network_was_not_trained_on_the_demos_photos():
    """By source, name and content of files, none is from scikit-image or scikit-learn."""
    with PHOTOGRAPHS_TSV.open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    assert len(listed) > 100
    assert not [
        row["file"] for row in listed if re.search(r"sci(kit-?|py|)[_-]?(image|learn)|skimage|sklearn", str(row))
    ]
    folders = (Path(skimage.data.data_dir), Path(sklearn.datasets.__file__).parent / "images")
    files = [path for folder in folders for path in folder.iterdir() if path.suffix in (".png", ".jpg")]
    assert {"chelsea", "china", "motorcycle_left"} <= {path.stem for path in files}
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert not digests & {row["sha256"] for row in listed}


def test_page_compares_test_photos_only():
    """Those not used in training."""
    comparisons = restore_demo_photographs.compare_photos(lambda image: image[::-1])
    tests = [name for name, (split, _) in make_demo_data.PHOTOS.items() if split == "test"]
    assert [one.name for one in comparisons] == tests
    for one in comparisons:
        assert 15 < one.psnr[0] < 40
        np.testing.assert_array_equal(one.restored, one.blurred[::-1])


def test_a_longer_path_blurs_more():
    photo = make_demo_data.load_photo("chelsea")
    errors = []
    for length in (0.0, 3.0, 15.0):
        shake = make_demo_data.Shake(time_samples=41, travel=(length, length), roll=0.0, zoom=0.0, jitter=0.0, pull=0.0)
        pair = make_demo_data.blur_photo(photo, [1, 2, 5], side=200, shake=shake)
        assert pair["blur"].shape == pair["sharp"].shape == (200, 200, 3)
        errors.append(np.square(pair["blur"].astype(float) - pair["sharp"]).mean())
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] > 4 * errors[0]


def test_sequences_are_deterministic(tmp_path, monkeypatch):
    monkeypatch.setattr(make_demo_data, "FRAMES", {"train": 1, "test": 1})
    for folder in ("first", "second"):
        make_demo_data.make_sequence("chelsea", tmp_path / folder)
    first, second = (tmp_path / folder / "test" / "chelsea" for folder in ("first", "second"))
    for variant in ("blur", "sharp"):
        assert (first / variant / "000001.png").read_bytes() == (second / variant / "000001.png").read_bytes()
        assert read_image(first / variant / "000001.png").shape == (240, 240, 3)
