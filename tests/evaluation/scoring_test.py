"""Scoring: every image once, in order, at every batch size, with the scores of the blurry input."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.evaluation import scoring
from jaxdeblur.evaluation.metrics import METRICS, image_metrics
from jaxdeblur.images.arrays import to_uint8
from jaxdeblur.runs.records import EvaluationRecord, ProtocolRecord, SpeedRecord
from jaxdeblur.runs.typed_json import read_typed_json

RNG = np.random.default_rng(0)


def make_pairs(sizes):
    pairs = []
    for i, (height, width) in enumerate(sizes):
        sharp = RNG.integers(0, 256, (height, width, 3), np.uint8)
        blur = np.clip(sharp.astype(int) + RNG.integers(-30, 30, sharp.shape), 0, 255).astype(np.uint8)
        pairs.append({"blur": blur, "sharp": sharp, "sequence": f"s{i // 3}", "frame": str(i)})
    return pairs


def darken(shapes):
    """Return a network that darkens by a tenth and appends the shapes of its batches to `shapes`."""

    def predict(variables, blur):
        del variables
        shapes.append(blur.shape)
        return blur.astype(np.float32) / 255 - 0.1

    return predict


def score(pairs, batch_size, *, sample_count=3):
    shapes = []
    result = scoring.evaluate(
        darken(shapes),
        None,
        pairs,
        scoring.ScoringOptions(batch_size, num_threads=2),
        sample_indices=scoring.spread_indices(len(pairs), sample_count),
    )
    return result, shapes


def test_every_image_is_scored_once_at_every_batch_size():
    pairs = make_pairs([(8, 10)] * 7)
    expected = [image_metrics(pair["blur"] / 255 - 0.1, pair["sharp"]).psnr for pair in pairs]
    for batch_size in (1, 3, 4, 16):
        result, shapes = score(pairs, batch_size)
        assert [image.frame for image in result.images] == list("0123456")
        assert [image.psnr for image in result.images] == pytest.approx(expected, abs=1e-4)
        assert sum(shape[0] for shape in shapes) == 7  # no image is predicted twice
        assert all(shape[0] == batch_size for shape in shapes[:-1])
        assert result.summary == score(pairs, 2)[0].summary


def test_a_batch_has_images_of_one_size():
    result, shapes = score(make_pairs([(8, 8), (8, 8), (8, 8), (6, 9), (8, 8)]), 2)
    assert shapes == [(2, 8, 8, 3), (1, 8, 8, 3), (1, 6, 9, 3), (1, 8, 8, 3)]
    assert len(result.images) == 5


def test_identity_is_the_score_of_the_blurry_input():
    pairs = make_pairs([(8, 10)] * 4)
    result, _ = score(pairs, 4)
    input_psnr = [image_metrics(pair["blur"] / 255, pair["sharp"]).psnr for pair in pairs]
    assert [image.identity.psnr for image in result.images] == input_psnr
    assert result.summary.identity.psnr == pytest.approx(np.mean(input_psnr))
    gains = [image.psnr - identity for image, identity in zip(result.images, input_psnr, strict=True)]
    assert result.summary.gain_psnr.mean == pytest.approx(np.mean(gains))


def test_samples_are_spread_over_the_split():
    result, _ = score(make_pairs([(8, 8)] * 9), 2, sample_count=3)
    assert [sample.frame for sample in result.samples] == ["0", "4", "8"]
    sample = result.samples[1]
    np.testing.assert_array_equal(sample.prediction, to_uint8(sample.blur / np.float32(255) - 0.1))
    parts = np.split(scoring.strip(sample), 3, axis=1)
    for part, key in zip(parts, ("blur", "prediction", "sharp"), strict=True):
        np.testing.assert_array_equal(part, getattr(sample, key))


def test_saved_images_are_clipped_and_rounded():
    image = np.array([-0.1, 0.6 / 255, 254.4 / 255, 1.1])
    np.testing.assert_array_equal(to_uint8(image), [0, 1, 254, 255])


def test_a_written_evaluation_follows_the_schema(tmp_path):
    result, _ = score(make_pairs([(8, 8)] * 3), 2, sample_count=1)
    protocol = ProtocolRecord(
        data_set="d",
        split="test",
        split_rule="original",
        blur_variant="blur",
        resolution="full",
        resize_filter="none",
        number_of_images=3,
        pairs_skipped=2,
        weights="a file",
        weights_sha256="w",
        checkpoint_step=7,
        code_version="0.1.0",
        date="2026-11-27",
    )
    path = scoring.evaluation_path(tmp_path, protocol)
    speed = SpeedRecord(images_per_s=2.0, flops_per_image=None, devices="1 x cpu (cpu)")
    scoring.write_evaluation(path, protocol, result, speed)
    record = json.loads((tmp_path / "test-full.json").read_text())
    assert path.name == "test-full.json"
    assert read_typed_json(EvaluationRecord, path, remedy="").protocol == protocol
    assert {*METRICS} <= record["summary"].keys()
    assert record["summary"]["identity"].keys() == {*METRICS}
    assert [image["frame"] for image in record["images"]] == ["0", "1", "2"]
    saved = np.asarray(Image.open(tmp_path / record["samples"][0]["files"]["prediction"]))
    np.testing.assert_array_equal(saved, result.samples[0].prediction)
