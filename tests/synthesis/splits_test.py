"""Assignment of scenes to splits by name and by share."""

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.splits import SPLITS, assign_splits, leaves_training_scenes, split_counts


def split(names, named=None, validation=0.1, test=0.2, seed=0):
    shares = {name: share for name, share in (("validation", validation), ("test", test)) if name not in (named or {})}
    return assign_splits(names, named or {}, shares, seed)


def counts(splits):
    return tuple(list(splits.values()).count(name) for name in SPLITS)


@pytest.mark.parametrize(
    ("number", "validation", "test", "expected"),
    [
        (3, 0.1, 0.2, (1, 1, 1)),
        (20, 0.1, 0.2, (14, 2, 4)),
        (3, 0.4, 0.5, (1, 1, 1)),
        (2, 0.0, 0.2, (1, 0, 1)),
        (5, 0.0, 1.0, (0, 0, 5)),
        (1, 0.0, 1.0, (0, 0, 1)),
        (3, 0.5, 0.5, (0, 1, 2)),  # two each, of which the first is reduced
        (4, 0.0, 0.0, (4, 0, 0)),
    ],
)
def test_shares_are_kept_and_no_split_is_empty(number, validation, test, expected):
    assert counts(split([f"s{n}" for n in range(number)], validation=validation, test=test)) == expected


def test_draw_depends_on_the_seed_but_not_on_the_order_of_names():
    names = [f"s{n}" for n in range(20)]
    assert split(names) == split(names[::-1])
    assert split(names) != split(names, seed=1)


def test_named_scenes_are_in_their_split():
    splits = split("abcdefgh", {"test": ["c", "a"]}, validation=0.25)
    assert {name for name, part in splits.items() if part == "test"} == {"a", "c"}
    assert counts(splits) == (4, 2, 2)
    assert counts(split("ab", {"test": ["a", "b"]}, validation=0.0)) == (0, 0, 2)


@pytest.mark.parametrize(
    ("names", "keywords", "code", "message"),
    [
        ("ab", {}, "too-few-scenes", "2 scene.s. to divide among validation, test, train"),
        ("a", {"validation": 0.0}, "too-few-scenes", "1 scene.s. to divide among test, train"),
        ("abc", {"named": {"test": ["x", "a"]}}, "scene-unknown", "no such scene:\n  - x\nScenes found: a, b, c"),
        ("abc", {"named": {"test": ["a"], "validation": ["a"]}}, "scene-in-two-splits", "in one split only"),
        ("abc", {"test": 1.5}, "share-invalid", "shares of validation 0.1, test 1.5"),
        ("abc", {"validation": -0.1}, "share-invalid", "shares of validation -0.1"),
        ("abc", {"validation": 0.6, "test": 0.6}, "share-invalid", "at most 1 together"),
    ],
)
def test_impossible_splits_are_refused(names, keywords, code, message):
    with pytest.raises(InputError, match=message) as error:
        split(names, **keywords)
    assert error.value.code == code


def test_training_scenes_remain_unless_the_shares_add_up_to_1_or_all_are_named():
    assert leaves_training_scenes(["a"], {"validation": 0.1, "test": 0.2})
    assert leaves_training_scenes(["a"], {"validation": 0.0})
    assert leaves_training_scenes([], {"validation": 0.1})  # and is then refused: nothing is left to draw
    assert not leaves_training_scenes(["a"], {"validation": 0.5, "test": 0.5})
    assert not leaves_training_scenes([], {"validation": 0.0})


def test_counts_are_rounded_at_least_1_and_the_largest_are_reduced():
    names = list("abcdefghij")
    assert split_counts(10, names, {"validation": 0.04, "test": 0.26}, num_training=1) == {"validation": 1, "test": 3}
    assert split_counts(10, names[:4], {"validation": 0.2, "test": 0.4}, num_training=1) == {"validation": 1, "test": 2}
    assert split_counts(10, names, {"validation": 0.0}, num_training=1) == {}
