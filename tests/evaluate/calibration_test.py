"""Calibration samples on disk, which of them belong together, and what their files are like."""

import json

import numpy as np
import pytest

from brittle_jax.errors import DamagedError
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate.calibration import Calibration, joined_groups, unlike
from brittle_jax.results import DETECTORS

SCORES = {name: np.array([1.5, 3.25, 2.0], np.float32) + number for number, name in enumerate(DETECTORS)}


def made_up(**changes):
    fields = {
        "ids": ["a.png", "b/Größe.png", 'c,"d".png'],
        "scores": SCORES,
        "groups": np.array(["x", "y", "x"]),
        "properties": np.array([[20, 30, 8, 0], [20, 30, 16, 1], [40, 50, 8, 0]]),
        "made_with": "abc",
    }
    return Calibration(**fields | changes)


def test_what_is_read_is_what_was_written(tmp_path):
    calibration_lib.write(tmp_path, "unimodal/cat", made_up())
    found = calibration_lib.read(tmp_path, "unimodal/cat")
    assert found.ids == made_up().ids and found.made_with == "abc" and len(found) == 3
    for name in DETECTORS:
        np.testing.assert_array_equal(found.scores[name], SCORES[name])
    assert found.groups.tolist() == ["x", "y", "x"] and found.num_groups == 2
    np.testing.assert_array_equal(found.properties, made_up().properties)
    assert calibration_lib.read(tmp_path, "unimodal/dog") is None


def test_a_group_counts_once_with_its_largest_score():
    assert made_up().scores_of("kd").tolist() == [2.0, 3.25]


def test_scores_alone_as_earlier_versions_wrote_them_are_read(tmp_path):
    calibration_lib.write(tmp_path, "normal", made_up())
    (tmp_path / "normal.json").unlink()
    found = calibration_lib.read(tmp_path, "normal")
    assert found.num_groups == 3 and found.properties is None and found.made_with == ""


def test_files_of_unknown_properties_are_written_as_such(tmp_path):
    calibration_lib.write(tmp_path, "normal", made_up(properties=None))
    assert calibration_lib.read(tmp_path, "normal").properties is None


def rewrite(change):
    def damage(folder):
        content = json.loads((folder / "normal.json").read_text(encoding="utf-8"))
        change(content)
        (folder / "normal.json").write_text(json.dumps(content), encoding="utf-8")

    return damage


def to_link(folder):
    (folder / "normal.json").rename(folder / "other.json")
    (folder / "normal.json").symlink_to(folder / "other.json")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "normal.csv").write_text("id,label,kd\na,0,1\n"), "scores of all detectors"),
        (lambda folder: (folder / "normal.json").write_text("[]"), "not as it was written"),
        (to_link, "a link"),
        (rewrite(lambda content: content.update(format_version=2)), "format version 2, not 1"),
        (rewrite(lambda content: content.update(groups=["x"])), "groups of"),
        (rewrite(lambda content: content.update(files={"height": [1]})), "KeyError"),
        (rewrite(lambda content: content.pop("made_with")), "KeyError"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path, damage, reason):
    calibration_lib.write(tmp_path, "normal", made_up())
    damage(tmp_path)
    with pytest.raises(DamagedError, match=reason) as raised:
        calibration_lib.read(tmp_path, "normal")
    assert "\n" not in str(raised.value)


def test_other_scores_than_those_that_were_written_are_noticed(tmp_path):
    calibration_lib.write(tmp_path, "normal", made_up())
    text = (tmp_path / "normal.csv").read_text(encoding="utf-8")
    (tmp_path / "normal.csv").write_text(text.replace("3.25", "3.75"), encoding="utf-8")
    with pytest.raises(DamagedError, match="changed"):
        calibration_lib.read(tmp_path, "normal")


def test_samples_that_share_a_picture_are_one_group_however_long_the_chain():
    groups = ["a", "b", "c", "d", "e"]
    digests = [["1", "2"], ["3", "4"], ["2", "3"], ["5", "6"], ["7", "7"]]
    assert joined_groups(groups, digests).tolist() == ["a", "a", "a", "d", "e"]
    assert joined_groups(["a", "b", "b"], [["1"], ["2"], ["1"]]).tolist() == ["a", "a", "a"]
    # A group and a digest of the same name are not the same thing.
    assert joined_groups(["a", "b"], [["b"], ["a"]]).tolist() == ["a", "b"]


def test_files_that_differ_are_told_by_what_differs():
    calibration = np.array([[20, 30, 8, 0]] * 30)
    assert unlike(calibration, calibration) == []
    assert unlike(calibration, calibration[:0]) == unlike(calibration[:0], calibration) == []
    other = calibration.copy()
    other[:2] = [40, 30, 16, 1]
    assert unlike(calibration, other) == [
        "another bit depth than 8 bits (2 of 30)",
        "other colours than colour (2 of 30)",
        "another size than 30 x 20 pixels (2 of 30)",
    ]
    assert unlike(calibration, np.concatenate([calibration, other])[:61]) == []  # no more than one in twenty
    calibration[0] = [60, 50, 16, 1]
    assert unlike(calibration, other) == []
    assert unlike(calibration, calibration * [2, 2, 1, 1]) == [
        "another size than 30 x 20 pixels to 50 x 60 pixels (30 of 30)"
    ]
