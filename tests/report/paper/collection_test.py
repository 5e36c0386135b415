"""Which runs are found below a folder, and which are left out."""

import shutil
import subprocess
import sys

import pytest

from brittle_jax import files
from brittle_jax.report.paper.collection import collect
from tests.report.paper.made_up import content_of, entry_of, write_run

ROW = "cifar10_random"
ENTRIES = [entry_of("unimodal/cat", 0.6, 0.05)]


def names_of(folder):
    return [run.name for run in collect(folder).runs]


def test_runs_are_found_however_deep_they_are(tmp_path):
    write_run(tmp_path / "b" / "c" / "run", ROW, ENTRIES)
    write_run(tmp_path / "a", ROW, ENTRIES)
    write_run(tmp_path / ".hidden", ROW, ENTRIES)
    write_run(tmp_path / "a" / "checkpoints" / "inside", ROW, ENTRIES)
    assert names_of(tmp_path) == ["a", "b/c/run"]
    assert names_of(tmp_path / "a") == ["a"]


def test_what_a_run_says_of_itself(tmp_path):
    reduced = {
        "distill.num_epochs": [20, 2],
        "data.configurations": ["all", "unimodal/cat"],
        "data.parcels.seed": [0, 7],
        "evaluate.batch_size": [64, 8],
    }
    write_run(tmp_path / "run", ROW, ENTRIES, seed=3, reduced=reduced, skipped_inputs=[{}], data_path="/mine")
    (run,) = collect(tmp_path).runs
    assert run.reduced == {"distill.num_epochs": 2}
    assert run.seeds == (("parcels", 7), ("splits", 3), ("student", 3), ("teacher", 3))
    assert run.is_of_paper and run.is_own_data and run.num_skipped == 1
    assert run.entries["unimodal/cat"]["brittleness"] == 0.05


def test_a_repeated_row_is_its_seeds(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "row" / f"seed-{seed}", ROW, ENTRIES, seed=seed)
    runs = [{"folder": f"seed-{seed}"} for seed in (0, 1, 2)]
    files.write_json(tmp_path / "row" / "results.json", content_of(ROW, ENTRIES) | {"runs": runs})
    collection = collect(tmp_path)
    assert [run.name for run in collection.runs] == ["row/seed-0", "row/seed-1"]
    assert list(collection.left_out) == ["row/seed-2"]


def write_text(folder, text):
    files.write_text(folder / "results.json", text)


def write_changed(folder, **changes):
    files.write_json(folder / "results.json", content_of(ROW, ENTRIES) | changes)


BROKEN = {
    "cut off": (lambda folder: write_text(folder, '{"format_version": 1, "ro'), "damaged (not JSON"),
    "of another kind": (lambda folder: write_text(folder, "[1, 2]"), "damaged (not the results of a run"),
    "without its row": (lambda folder: write_text(folder, '{"format_version": 1}'), "damaged (not the results"),
    "newer": (lambda folder: write_changed(folder, format_version=2), "has format version 2; this version"),
    "with text for a number": (
        lambda folder: write_changed(folder, configurations=[entry_of("cat", 0.5, "much")]),
        "damaged (not the results of a run: TypeError",
    ),
    "with text for the probe": (
        lambda folder: write_changed(folder, configurations=[entry_of("cat", 0.5, 0.1, probe="good")]),
        "damaged (not the results of a run: AttributeError",
    ),
    "with text for the probe's accuracy": (
        lambda folder: write_changed(folder, configurations=[entry_of("cat", 0.5, 0.1, probe={"accuracy": "0.9"})]),
        "damaged (not the results of a run: TypeError",
    ),
    "with text for the movement": (
        lambda folder: write_changed(folder, configurations=[entry_of("cat", 0.5, 0.1, movement="far")]),
        "damaged (not the results of a run: TypeError",
    ),
    "with a point on the way that is none": (
        lambda folder: write_changed(folder, configurations=[entry_of("cat", 0.5, 0.1, course=[7])]),
        "damaged (not the results of a run: AttributeError",
    ),
    "with a name twice": (
        lambda folder: write_changed(folder, configurations=2 * ENTRIES),
        "two configurations have the same name",
    ),
    "with AUROC in percent": (
        lambda folder: write_changed(folder, configurations=[entry_of("cat", 61.0, 0.05)]),
        "AUROC of cat is not between 0 and 1",
    ),
    "without configurations": (lambda folder: write_changed(folder, configurations=[]), "no configurations"),
    "without a name": (lambda folder: write_changed(folder, configurations=[{}]), "KeyError, 'name'"),
    "a folder": (lambda folder: (folder / "results.json").mkdir(), "unfinished"),
    "unfinished": (lambda folder: None, "unfinished"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_named_and_the_rest_is_there(kind, tmp_path):
    write_run(tmp_path / "good", ROW, ENTRIES)
    files.write_json(tmp_path / "bad" / "config.json", {"row": ROW, "data.name": "cifar10"})
    write, reason = BROKEN[kind]
    write(tmp_path / "bad")
    collection = collect(tmp_path)
    assert [run.name for run in collection.runs] == ["good"]
    assert list(collection.left_out) == ["bad"] and reason in collection.left_out["bad"]


def test_a_folder_of_other_software_is_no_run(tmp_path):
    files.write_json(tmp_path / "model" / "config.json", {"architectures": ["Bert"]})
    assert collect(tmp_path) == ([], {})


def test_neither_jax_nor_flax_is_imported_and_many_runs_take_seconds(tmp_path):
    entries = [entry_of(f"{group}/{n}", 0.6, 0.05) for group in ("unimodal", "multimodal") for n in range(10)]
    write_run(tmp_path / "run", ROW, entries)
    for number in range(100):
        shutil.copytree(tmp_path / "run", tmp_path / "more" / f"run-{number}")
    code = (
        "import sys, pathlib, time, brittle_jax.report.paper.report\n"
        "from brittle_jax.report.paper.collection import collect\n"
        "start = time.process_time()\n"
        f"assert len(collect(pathlib.Path({str(tmp_path)!r})).runs) == 101\n"
        "assert time.process_time() - start < 1\n"
        "print([name for name in ('jax', 'flax', 'orbax', 'tensorflow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
