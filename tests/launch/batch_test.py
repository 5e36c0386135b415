import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from brittle_jax import batch, command_line, config
from brittle_jax.errors import UserError

SHARED = {f"stl_{teacher}" for teacher in ("classification", "rotnet", "autoencoder", "denoising")}


@pytest.fixture
def run(capsys):
    """Runs the command; returns its exit code and the lines that it prints."""

    def run(*arguments):
        parsed = command_line.parse(["batch", *arguments], batch.define_flags, needs_config=False, takes_rows=True)
        try:
            batch.main(parsed)
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        return code, capsys.readouterr().out.splitlines()

    return run


def test_groups_are_those_of_the_data_sets():
    sizes = {"all": 36, "cifar10": 14, "cats_vs_dogs": 13, "plant_pathology": 5, "xray": 4}
    assert {group: len(batch.rows_of([group])) for group in sizes} == sizes
    assert batch.rows_of([]) == batch.rows_of(["all"])
    assert batch.rows_of(["xray:smoke", "xray_random:smoke", "xray_random"]) == [
        "xray_baseline:smoke",
        "xray_imagenet:smoke",
        "xray_random:smoke",
        "xray_rotnet:smoke",
        "xray_random",
    ]


def test_a_row_that_does_not_exist_is_a_mistake():
    with pytest.raises(UserError, match="'cifar11' is neither a row nor a group of rows .did you mean cifar10"):
        batch.rows_of(["cifar11"])


def test_an_action_that_does_not_exist_is_a_mistake(run):
    with pytest.raises(UserError, match="'chek' is not one of list, check, .*did you mean check"):
        run("chek")
    with pytest.raises(UserError, match="'' is not one of list"):
        run()
    with pytest.raises(UserError, match="--overwrite is not a flag of this command"):
        run("list", "--", "--overwrite")


def test_one_row_of_each_teacher_comes_first(run):
    code, rows = run("list")
    assert code == 0 and sorted(rows) == batch.rows_of([])
    assert {row.removeprefix("cifar10_") for row in rows[-4:]} == SHARED
    assert {f"cats_vs_dogs_{teacher}" for teacher in SHARED} < set(rows[:-4])


def test_other_settings_are_another_teacher(run):
    rows = ["cats_vs_dogs_stl_rotnet", "cats_vs_dogs_random", "cifar10_stl_rotnet"]
    assert run("list", *rows)[1] == rows
    rows[0], rows[1] = rows[2], rows[0]
    assert run("list", "cifar10_stl_rotnet", "cats_vs_dogs_stl_rotnet", "xray_random")[1] == [
        "cifar10_stl_rotnet",
        "xray_random",
        "cats_vs_dogs_stl_rotnet",
    ]
    small = ["cifar10_stl_rotnet", "cats_vs_dogs_stl_rotnet:smoke", "xray_random"]
    assert run("list", *small)[1] == small


def test_everything_that_rows_lack_is_named_at_once(run, tmp_path):
    runs, data = tmp_path / "batch", tmp_path / "data"
    data.mkdir()
    other = runs / "xray_random-smoke"
    other.mkdir(parents=True)
    fields = config.flatten(command_line.configure("xray_random:smoke", ())[1])
    (other / "config.json").write_text(json.dumps({**fields, "seed": 7}))
    rows = ["cifar10_stl_rotnet", "xray_imagenet", "xray_random:smoke", "plant_random", "xray_rotnet:smoke"]
    code, lines = run("check", *rows, f"--runs={runs}", "--", f"--config.data.dir={data}")
    assert code == 2
    table = {line.split()[0]: line for line in lines}
    assert f"cifar10 is not prepared in {data}; stl10 is not prepared in {data}" in table["cifar10_stl_rotnet"]
    assert "--config.teacher.weights='': no such file" in table["xray_imagenet"]
    assert "belongs to a run with seed=7, not 0" in table["xray_random:smoke"]
    assert "plant_pathology is missing: download" in table["plant_random"]
    assert table["xray_rotnet:smoke"].split() == ["xray_rotnet:smoke", "ready"]
    assert "4 of 5 rows cannot run yet" in lines
    assert list(data.iterdir()) == [] and [file.name for file in runs.iterdir()] == ["xray_random-smoke"]


def test_settings_that_one_row_cannot_use_are_its_own(run, tmp_path):
    overrides = [f"--config.data.dir={tmp_path}", "--config.data.image_size_pixels=36"]
    code, lines = run(
        "check", "cifar10_random:smoke", "plant_random:smoke", f"--runs={tmp_path / 'r'}", "--", *overrides
    )
    assert code == 2 and "give a multiple of 8" in lines[1] and lines[2].split() == ["plant_random:smoke", "ready"]


def test_disk_space_is_added_up_over_the_rows(run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    arguments = ["check", "cats_vs_dogs_random:smoke", "cifar10_random:smoke", f"--runs={tmp_path / 'r'}"]
    arguments += ["--", f"--config.data.dir={tmp_path}"]

    def needed_with(free_mib):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(free_mib * 2**20)))
        lines = run(*arguments)[1][1:3]
        return [float(found[1]) for line in lines if (found := re.search("networks take ([0-9.]+) MiB", line))]

    first, both = needed_with(0)
    assert 0 < first < both
    assert needed_with((first + both) / 2) == [both]
    assert needed_with(both + 1) == []


def test_the_summary_tells_how_each_row_ended(run, tmp_path):
    def folder(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    entries = [{"auroc": {"kd": kd}, "brittleness": kd / 10} for kd in (0.5, 0.7)]
    results = {"configurations": entries, "seconds": {"data": 60, "distill": 30}, "skipped_inputs": []}
    (folder("xray_random") / "results.json").write_text(json.dumps(results))
    results["skipped_inputs"] = [["a.png", "broken"]]
    (folder("xray_rotnet-smoke") / "results.json").write_text(json.dumps(results))
    for name, code in {"xray_baseline": 2, "plant_random": 75, "plant_rotnet": 4}.items():
        (tmp_path / f"{name}.exit").write_text(f"{code} 1790000000\n")
    (tmp_path / "xray_baseline.log").write_text("what it did\nerror: the disk is full\n\n")
    (folder("plant_baseline") / "config.json").write_text("{}")
    rows = ["xray_random", "xray_rotnet:smoke", "xray_baseline", "plant_random", "plant_rotnet", "plant_baseline"]
    code, lines = run("summary", *rows, "xray_imagenet", f"--runs={tmp_path}")
    page = tmp_path / "xray_random" / "report" / "index.html"
    assert lines[1].split() == ["xray_random", "finished", "60.00", "0.06000", "1", "min", "30", "s", str(page)]
    assert "finished without 1 image " in lines[2]
    states = ["failed", "stopped", "left for later", "stopped", "not run"]
    assert [" ".join(line.split()[1:-4]) for line in lines[3:8]] == states
    assert lines[-1] == f"xray_baseline: error: the disk is full ({tmp_path / 'xray_baseline.log'})"


@functools.cache
def modules_of(*arguments):
    program = (
        "import runpy, sys\n"
        "try: runpy.run_module('brittle_jax.batch', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sys.modules)"
    )
    root = pathlib.Path(__file__).parent.parent.parent
    printed = subprocess.check_output([sys.executable, "-c", program, *arguments], text=True, cwd=root)
    return printed.rpartition("MODULES")[2].split()


@pytest.mark.parametrize("arguments", [["--help"], ["summary", "xray"]])
def test_help_and_summary_import_nothing_heavy(arguments):
    assert "brittle_jax.command_line" in modules_of(*arguments)
    assert not {"jax", "flax", "tensorflow_datasets"} & set(modules_of(*arguments))
