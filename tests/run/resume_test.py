"""A run that is asked to stop, by real signals, in each of its stages: it goes on, and ends as if undisturbed."""

import contextlib
import os
import re
import signal

import pytest

from brittle_jax import console, interrupt, results
from brittle_jax.errors import Interrupted
from brittle_jax.report import page
from brittle_jax.run import experiment
from brittle_jax.run.stages import Stages
from tests.small_runs import read, shrink, without_times
from tests.small_teachers import learn_fashion

STAGES = ["data", "pretrain", "represent", "distill", "probe", "score", "brittleness", "metrics", "examples"]
FOLDERS = ["scores", "calibration", "brittleness", "examples"]


class Signals:
    """Sends SIGTERM to the process at the first step of each work that it meets, and at the end of each stage, once.

    Attributes:
        met: names of works and stages, in their order.
    """

    def __init__(self):
        self.met = []

    def at(self, name):
        if name not in self.met:
            self.met.append(name)
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def signals(monkeypatch):
    signals = Signals()

    class Progress(console.Progress):
        def __init__(self, what, *others):
            super().__init__(what, *others)
            self.what = what

        def update(self, *others):
            super().update(*others)
            signals.at(self.what)

    class Interrupting(Stages):
        @contextlib.contextmanager
        def measured(self, stage):
            with super().measured(stage):
                yield
                signals.at(stage)

    def write_page(*arguments):
        signals.at("page")
        page_as_it_is(*arguments)
        signals.at("after the page")

    page_as_it_is = page.write_page
    monkeypatch.setattr(console, "Progress", Progress)
    monkeypatch.setattr(experiment, "Stages", Interrupting)
    monkeypatch.setattr(page, "write_page", write_page)
    return signals


def run_until_it_ends(config, folder):
    """Runs the same command again and again; returns what it was stopped with each time."""
    stops = []
    for _ in range(100):
        try:
            with interrupt.handled():
                experiment.run(config, folder)
            return stops
        except Interrupted as error:
            stops.append(str(error))
    raise AssertionError("the run does not end")


def files_of(run):
    return {file.relative_to(run): file.read_bytes() for name in FOLDERS for file in (run / name).rglob("*.*")}


def losses_of(run):
    """Returns step and loss of each record of metrics.jsonl, by stage, after making sure that each is there once."""
    stages = results.read_metrics(run)
    num_lines = len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert num_lines == sum(map(len, stages.values()))
    return {stage: [(record["step"], record["loss"]) for record in records] for stage, records in stages.items()}


def assert_same_runs(run, undisturbed):
    assert without_times(read(run, "results.json")) == without_times(read(undisturbed, "results.json"))
    assert files_of(run) == files_of(undisturbed) and len(files_of(run)) >= 3
    assert losses_of(run) == losses_of(undisturbed)


def test_a_run_that_is_stopped_in_every_stage_ends_as_if_undisturbed(tmp_path, xray_run, signals):
    undisturbed, config = xray_run
    stops = run_until_it_ends(config, tmp_path / "run")
    assert len(stops) == len(signals.met) and {*STAGES, "page", "after the page"} < {*signals.met}
    for name in ("pretrain soc", "teacher's representations", "distill soc", "features to probe", "input gradients"):
        (stop,) = [stop for stop in stops if stop.startswith(f"SIGTERM; {name}: ")]
        assert re.search(r"(\d+) of (?!\1 )\d+ (updates|images) are saved$", stop)  # in the middle of it
    assert_same_runs(tmp_path / "run", undisturbed)


@pytest.mark.usefixtures("empty_page")
def test_a_run_of_several_configurations_goes_on_with_those_that_are_left(tmp_path, cifar10_config, signals, capsys):
    """They share a teacher, and its representations."""
    config = learn_fashion(shrink(cifar10_config))
    config.data.configurations = "unimodal/airplane,multimodal/airplane"
    config.evaluate.batch_size, config.data.calibration_fraction = 8, 0.2
    config.distill.measure_at = "1,3"
    run_until_it_ends(config, tmp_path / "stopped" / "run")
    lines = capsys.readouterr().out.splitlines()
    assert {*STAGES, "pretrain", "distill unimodal/airplane", "distill multimodal/airplane"} < {*signals.met}
    assert "  unimodal/airplane: finished before" in lines
    experiment.run(config, tmp_path / "run")
    assert_same_runs(tmp_path / "stopped" / "run", tmp_path / "run")
    assert len(files_of(tmp_path / "run")) == 10
