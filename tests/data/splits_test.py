"""The rules of `data.splits`, on sources that have names only."""

from pathlib import Path

import pytest

from jaxdeblur.data.splits import hold_out, split_pairs
from jaxdeblur.errors import InputError


class Named:
    """A source with names only."""

    skipped = ()

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def select(self, keep):
        return Named([name for name in self.names if keep(*name)])


def split(available, rule, sequences=()):
    return split_pairs(available, rule, sequences, Path("data"))


def names_of(sources):
    return {split: source.names for split, source in sources.items()}


@pytest.mark.parametrize(
    ("sequences", "code", "message"),
    [
        (("nowhere",), "validation-sequence-missing", "nowhere; found scene_a, scene_b, scene_v in train/"),
        ((), "validation-sequence-missing", "empty; found scene_a"),
        (("scene_a", "scene_b", "scene_v"), "no-training-pairs", "all sequences of train/ are held out"),
    ],
)
def test_holding_out_missing_or_all_sequences_is_refused(sequences, code, message):
    source = Named([(name, "1") for name in ("scene_a", "scene_b", "scene_v")])
    with pytest.raises(InputError, match=message) as error:
        hold_out(source, sequences)
    assert error.value.code == code


def test_official_holds_out_whole_sequences_unless_there_is_a_validation_split():
    train, test = Named([("a", "1"), ("a", "2"), ("v", "1")]), Named([("t", "1")])
    assert names_of(split({"train": train, "test": test}, "official", ("v",))) == {
        "train": [("a", "1"), ("a", "2")],
        "validation": [("v", "1")],
        "test": [("t", "1")],
    }
    available = {"train": train, "validation": Named([("w", "1")]), "test": test}
    assert split(available, "official", ("nowhere",)) == available


def test_original_divides_the_sorted_test_list_at_entry_500():
    test = Named([(f"s{i // 100:02d}", f"{i:06d}") for i in range(1111)])
    train = Named([("t", "1")])
    sources = split({"train": train, "test": test}, "original")
    assert sources["train"] is train
    assert [sources["validation"].names[i][1] for i in (0, -1)] == ["000000", "000499"]
    assert [sources["test"].names[i][1] for i in (0, -1)] == ["000500", "001110"]
    assert (len(sources["validation"]), len(sources["test"])) == (500, 611)
    with pytest.raises(InputError, match=r"found 1,111 test pairs and a folder `validation`") as error:
        split({"train": train, "test": test, "validation": train}, "original")
    assert error.value.code == "not-original-test"


def test_none_makes_all_pairs_the_test_split():
    pairs = Named([("a", "1")])
    assert split({"all": pairs}, "none") == {"test": pairs}


def test_drawing_needs_a_group_for_each_split():
    with pytest.raises(InputError) as error:
        split({"all": Named([("a", "1"), ("a", "2")])}, "drawn")
    assert error.value.code == "too-few-pairs"
    sources = split({"all": Named([("a", "1"), ("a", "2"), ("b", "1")])}, "drawn")
    assert sorted(map(len, sources.values())) == [1, 1, 1]
