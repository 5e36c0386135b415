import os
import shutil

import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.errors import UserError
from brittle_jax.run.progress import Progress

NAME = "unimodal/airplane"
MADE_FROM = {"settings": {"seed": 0}, "splits_sha256": "0"}
ENTRY = {"name": NAME, "auroc": {"kd": np.float32(1 / 3)}, "brittleness": None, "shape": (3, 4)}
READ_BACK = {"name": NAME, "auroc": {"kd": float(np.float32(1 / 3))}, "brittleness": None, "shape": [3, 4]}
WRITTEN = ("scores", "calibration", "brittleness", "examples")
NETWORKS = ("teacher", "student")


@pytest.fixture
def finished(tmp_path):
    """The folder of a run with a finished configuration."""
    progress = Progress(tmp_path, MADE_FROM)
    for name in NETWORKS:
        checkpoint.save(tmp_path / "checkpoints" / NAME / name, {"w": np.arange(3.0)}, {}, MADE_FROM)
    files = [tmp_path / name / f"{NAME}.csv" for name in WRITTEN]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text(f"of {file.parent.parent.name}", encoding="utf-8")
    works = progress.works_of(NAME)
    (works / "distill-0123").mkdir(parents=True)
    assert progress.finish(NAME, ENTRY, files) == READ_BACK
    assert not works.exists()
    return tmp_path


def networks_of(run):
    return [run / "checkpoints" / NAME / name for name in NETWORKS]


def entry(run, made_from=MADE_FROM, networks=None):
    return Progress(run, made_from).entry(NAME, networks_of(run) if networks is None else networks)


def test_an_entry_is_read_back_as_finish_returned_it(finished, capsys):
    assert entry(finished) == READ_BACK
    assert Progress(finished, MADE_FROM).entry("unimodal/cat", []) is None
    assert capsys.readouterr().err == ""


DAMAGES = {
    "changed": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"?"),
    "cut": lambda file: os.truncate(file, 3),
    "missing": lambda file: file.unlink(),
    "a link": lambda file: (file.rename(f"{file}.elsewhere"), file.symlink_to(f"{file}.elsewhere")),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", WRITTEN)
def test_a_configuration_is_done_again_if_one_of_its_files_is_not_as_it_was(finished, name, damage, capsys):
    file = finished / name / f"{NAME}.csv"
    DAMAGES[damage](file)
    assert entry(finished) is None
    what = {"cut": "changed", "a folder": "missing"}.get(damage, damage)
    assert capsys.readouterr().err == f"warning: {file} is damaged ({what}): {NAME} is done again\n"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("inner", ["network.json", "manifest.json", "made_from.json", "variables/_METADATA"])
@pytest.mark.parametrize("damage", ["changed", "missing", "a link"])
def test_a_configuration_is_done_again_if_one_of_its_networks_is_damaged(finished, name, inner, damage, capsys):
    network = finished / "checkpoints" / NAME / name
    DAMAGES[damage](network / inner)
    assert entry(finished) is None
    warned = capsys.readouterr().err
    assert warned.startswith(f"warning: {network}") and warned.endswith(f"): {NAME} is done again\n")
    assert inner in warned and warned.count("\n") == 1


def test_a_configuration_is_done_again_if_a_network_is_gone(finished, capsys):
    shutil.rmtree(finished / "checkpoints" / NAME / "student")
    assert entry(finished) is None
    assert "student" in capsys.readouterr().err


def test_no_flipped_bit_in_an_entry_changes_what_is_read(finished, capsys):
    (file,) = finished.rglob("finished.json")
    sound = file.read_bytes()
    num_noticed = 0
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        found = entry(finished)
        warned = capsys.readouterr().err
        assert (found is None and f"{file} is damaged (" in warned) or (found == READ_BACK and warned == "")
        num_noticed += found is None
    assert num_noticed > 0.9 * len(sound)  # the others make blanks of other blanks


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "a folder"])
def test_a_damaged_entry_is_named_and_done_again(finished, damage, capsys):
    (file,) = finished.rglob("finished.json")
    DAMAGES[damage](file)
    assert entry(finished) is None
    warned = capsys.readouterr().err
    if damage == "missing":
        assert warned == ""  # it was never finished
    else:
        assert warned.startswith(f"warning: {file} is damaged (")
        assert warned.endswith("): what it records is computed again\n") and warned.count("\n") == 1
    if damage != "a folder":
        Progress(finished, MADE_FROM).finish(NAME, ENTRY, [])
        assert entry(finished) == READ_BACK


def test_progress_of_other_settings_or_images_is_dropped(finished, capsys):
    outside = finished / "scores" / f"{NAME}.csv"
    Progress(finished, {**MADE_FROM})
    assert entry(finished) == READ_BACK
    assert entry(finished, MADE_FROM | {"splits_sha256": "1"}) is None
    assert entry(finished) is None
    assert len(list((finished / "progress").iterdir())) <= 1
    assert outside.exists() and capsys.readouterr().err == ""


@pytest.mark.parametrize("configuration", [None, NAME])
@pytest.mark.parametrize("result", [{"accuracy": 1 / 3, "num_classes": 2}, None, [], 0])
def test_what_was_made_is_remembered_by_this_process_and_the_next(tmp_path, configuration, result):
    made = []

    def make():
        made.append(True)
        return result

    for _ in range(2):
        progress = Progress(tmp_path, MADE_FROM)
        assert [progress.remember("probe", configuration, make) for _ in range(2)] == [result, result]
    assert made == [True]
    progress.remember("probe", "unimodal/cat", make)
    progress.remember("another", configuration, make)
    assert made == 3 * [True]


def test_what_is_remembered_is_made_again_if_it_is_damaged(tmp_path, capsys):
    progress = Progress(tmp_path, MADE_FROM)
    assert progress.remember("probe", None, lambda: {"accuracy": 0.5}) == {"accuracy": 0.5}
    file = progress.shared / "probe.json"
    change_to = file.read_text(encoding="utf-8").replace("0.5", "0.6")
    file.write_text(change_to, encoding="utf-8")
    assert progress.remember("probe", None, lambda: {"accuracy": 0.5}) == {"accuracy": 0.5}
    assert capsys.readouterr().err == f"warning: {file} is damaged (changed): what it records is computed again\n"


def test_what_fails_is_not_remembered(tmp_path):
    progress = Progress(tmp_path, MADE_FROM)
    with pytest.raises(ZeroDivisionError):
        progress.remember("probe", None, lambda: 1 / 0)
    assert progress.remember("probe", None, lambda: 1) == 1


def test_what_belongs_to_a_configuration_goes_when_it_is_finished(tmp_path):
    progress = Progress(tmp_path, MADE_FROM)
    for configuration in (NAME, f"{NAME}/random", None):
        progress.remember("probe", configuration, lambda: 1)
    progress.finish(NAME, ENTRY, [])
    for configuration, expected in ((NAME, 2), (f"{NAME}/random", 1), (None, 1)):
        assert progress.remember("probe", configuration, lambda: 2) == expected


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "progress").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="finished.json cannot be written .*: move away what is in its place"):
        Progress(tmp_path, MADE_FROM).finish(NAME, ENTRY, [])
