import atexit
import dataclasses
import functools
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from brittle_jax import batch, command_line, config
from brittle_jax.errors import UserError
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.run import estimates, holding
from brittle_jax.run.estimate import Estimate, StageEstimate
from brittle_jax.run.job import Job
from tests.mini_network import MINI

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


class IsLike(str):
    """Equals what begins as this pattern says."""

    def __eq__(self, other):
        return re.match(self, other) is not None

    __hash__ = str.__hash__


def lacks(lines):
    """Returns, by row, the notes to which its line in the table refers."""
    notes = {line.split()[0]: line.partition(" ")[2] for line in lines if line.startswith("[")}
    rows = [line for line in lines if re.match(r"\w+(:\w+)?  ", line) and not line.startswith("row ")]
    return {line.split()[0]: [notes[number] for number in re.findall(r"\[\d+\]", line)] for line in rows}


def test_everything_that_rows_lack_is_named_at_once(run, tmp_path, monkeypatch):
    runs, data = tmp_path / "batch", tmp_path / "data"
    data.mkdir()
    other = runs / "xray_random-smoke"
    other.mkdir(parents=True)
    fields = config.flatten(command_line.configure("xray_random:smoke", ())[1])
    (other / "config.json").write_text(json.dumps({**fields, "seed": 7}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = ["cifar10_stl_rotnet", "xray_imagenet", "xray_random:smoke", "plant_random", "cifar10_random"]
    rows += ["xray_rotnet:smoke"]
    arguments = [*rows, f"--runs={runs}", "--", f"--config.data.dir={data}"]
    code, lines = run("check", f"--list_to={tmp_path / 'list'}", *arguments)
    assert code == 2
    assert lacks(lines) == {
        "cifar10_stl_rotnet": [
            f"cifar10 is not prepared in {data} (2 rows)",
            f"stl10 is not prepared in {data} (1 row)",
        ],
        "xray_imagenet": [IsLike("--config.teacher.weights='': no such file")],
        "xray_random:smoke": [IsLike(f"--workdir={other} belongs to a run with seed=7, not 0")],
        "plant_random": [IsLike("plant_pathology is missing: download")],
        "cifar10_random": [f"cifar10 is not prepared in {data} (2 rows)"],
        "xray_rotnet:smoke": [],
    }
    assert "5 of 6 rows cannot run yet" in lines
    assert list(data.iterdir()) == [] and [file.name for file in runs.iterdir()] == ["xray_random-smoke"]
    listed = [line.split() for line in (tmp_path / "list").read_text().splitlines()]
    assert listed == [[row, *([] if row == "xray_rotnet:smoke" else ["lacks"])] for row in rows]
    assert [row for row, *_ in listed] == run("list", *arguments)[1]


def test_a_data_set_that_is_downloaded_first_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    arguments = [f"--runs={tmp_path / 'r'}", "--", f"--config.data.dir={tmp_path}"]
    code, lines = run("check", "cifar10_random", "xray_random", *arguments)
    assert code == 0 and lines[-1] == "no row lacks anything"
    assert lacks(lines) == {
        "cifar10_random": [IsLike(r"cifar10( \(.* MiB\))? is downloaded to .* \(1 row\)")],
        "xray_random": [],
    }
    assert list(tmp_path.iterdir()) == []


def test_settings_that_one_row_cannot_use_are_its_own(run, tmp_path):
    overrides = [f"--config.data.dir={tmp_path}", "--config.data.image_size_pixels=36"]
    code, lines = run(
        "check", "cifar10_random:smoke", "plant_random:smoke", f"--runs={tmp_path / 'r'}", "--", *overrides
    )
    assert code == 2
    assert lacks(lines) == {"cifar10_random:smoke": [IsLike(".*give a multiple of 8")], "plant_random:smoke": []}


def test_disk_space_is_added_up_over_the_rows(run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    arguments = ["check", "cats_vs_dogs_random:smoke", "cifar10_random:smoke", f"--runs={tmp_path / 'r'}"]
    arguments += ["--", f"--config.data.dir={tmp_path}"]

    def lacks_with(free_mib):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(free_mib * 2**20)))
        return lacks(run(*arguments)[1])

    def rows_without_space(free_mib):
        return [row for row, found in lacks_with(free_mib).items() if found]

    rows = arguments[1:3]
    [note] = set(sum(lacks_with(0).values(), []))
    needed = float(re.fullmatch(r"disk space: networks take ([0-9.]+) MiB, but only 0.0 are free \(2 rows\)", note)[1])
    assert rows_without_space(0) == rows
    assert rows_without_space(needed - 1) == rows[1:]
    assert rows_without_space(needed + 1) == []
    arguments.append("--config.seeds=0,1,2")
    assert rows_without_space(2 * needed) == rows[1:]


def jobs_of(rows, folder, overrides=(), job=Job):
    return [job(row, folder / row.replace(":", "-"), command_line.configure(row, overrides)[1]) for row in rows]


def test_a_shared_teacher_counts_once_in_an_estimate_of_many_rows(tmp_path):
    rows = ["cifar10_stl_rotnet", "cats_vs_dogs_stl_rotnet", "xray_random", "xray_rotnet", "cifar10_random"]
    jobs = jobs_of(rows, tmp_path)
    (jobs[4].folder).mkdir()
    (jobs[4].folder / "results.json").touch()

    def estimate_of(job):
        if job.name == "xray_random":
            raise UserError("no such thing")
        stages = [StageEstimate("pretrain", 10, "update", 360.0), StageEstimate("distill", 60, "update", 2.0, 60.0)]
        return Estimate(stages, 100.0 * len(job.name), None, 3, 20.0, float(len(job.name)))

    assert [re.split("  +", line) for line in estimates.lines(jobs, estimate_of)] == [
        ["row", "time", "memory MiB", "disk MiB", "temporary MiB"],
        ["cifar10_stl_rotnet", "1 h 03 min", "1,800", "20.0", "18.0"],
        ["xray_random", "cannot be estimated: no such thing"],
        ["xray_rotnet", "1 h 03 min", "1,100", "20.0", "11.0"],
        ["cifar10_random", "finished before"],
        ["cats_vs_dogs_stl_rotnet", "3 min 00 s", "2,300", "20.0", "23.0"],
        ["in all", "2 h 09 min", "2,300", "60.0", "23.0"],
        ["without 1 row that cannot be estimated"],
    ]


def test_a_teacher_counts_where_the_first_row_that_has_it_cannot_be_estimated(tmp_path):
    jobs = jobs_of(["cifar10_stl_rotnet", "cats_vs_dogs_stl_rotnet"], tmp_path)

    def estimate_of(job):
        if job is jobs[0]:
            raise UserError("no such thing")
        return Estimate([StageEstimate("pretrain", 1, "update", 120.0)], 1.0, None, 3, 1.0, 1.0)

    assert "2 min 00 s" in list(estimates.lines(jobs, estimate_of))[-2]


@dataclasses.dataclass(frozen=True)
class SmallJob(Job):
    """A job in whose process this file is imported, and with it the mini network; it says when that process ends."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        atexit.register((self.folder.parent / "ended").touch)


ARCHITECTURES["mini"] = MINI


def test_a_row_is_estimated_in_a_process_of_its_own(tmp_path, data_dir):
    overrides = [f"--config.data.dir={data_dir}", "--config.network.name=mini", "--config.data.max_train_samples=16"]
    overrides += ["--config.data.configurations=unimodal/airplane", "--config.data.max_test_samples=8"]
    [job] = jobs_of(["cifar10_random:smoke"], tmp_path, overrides, SmallJob)
    found = estimates.estimate_apart(job)
    assert found.seconds > 0 and found.memory_mib > 100
    assert {"distill", "score", "brittleness"} <= {stage.stage for stage in found.stages}
    assert not job.folder.exists()
    assert (tmp_path / "ended").exists()  # and was not killed: it would leave semaphores behind


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
    (tmp_path / "xray_imagenet.exit").write_text("75 1790000000\n")  # of an earlier attempt
    results |= {"runs": 3 * [{}], "skipped_inputs": []}
    (folder("cifar10_random") / "results.json").write_text(json.dumps(results))
    rows = ["xray_random", "xray_rotnet:smoke", "xray_baseline", "plant_random", "plant_rotnet", "plant_baseline"]
    with holding.hold(folder("xray_imagenet")):
        code, lines = run("summary", *rows, "xray_imagenet", "plant_imagenet", "cifar10_random", f"--runs={tmp_path}")
    page = tmp_path / "xray_random" / "report" / "index.html"
    assert lines[1].split() == ["xray_random", "finished", "60.00", "0.06000", "1", "min", "30", "s", str(page)]
    assert "finished without 1 image " in lines[2]
    states = ["failed", "stopped", "left for later", "stopped", "running", "not run"]
    assert [" ".join(line.split()[1:-4]) for line in lines[3:9]] == states
    assert lines[9].split()[:6] == ["cifar10_random", "finished,", "3", "seeds", "60.00", "0.06000"]
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
