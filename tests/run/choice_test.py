import numpy as np
import pytest

from brittle_jax import files
from brittle_jax.config import completed, flatten
from brittle_jax.errors import UserError
from brittle_jax.evaluate.selection import Trial
from brittle_jax.recipes import image_folder_row
from brittle_jax.report import choice_page
from brittle_jax.results import DETECTORS
from brittle_jax.run import choice
from brittle_jax.run.candidates import Candidate
from tests.conftest import save_noise
from tests.small_runs import shrink

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=40)


def trials(shifts):
    return {
        f"{name}, {detector}": Trial(NORMAL, {"scar": NORMAL + shift + RNG.normal(size=40)})
        for name, by_detector in shifts.items()
        for detector, shift in by_detector.items()
    }


def figures(name, brittleness, *, group="one network", ratios=(2.0, 1.0), is_reference=False):
    course = [{"error_ratio": ratio, "brittleness": value} for ratio, value in zip(ratios, brittleness, strict=True)]
    return {"name": name, "group": group, "is_reference": is_reference, "course": course}


def test_synthetic_anomalies_decide_on_teacher_and_detector():
    measured = [figures("a", (1, 1)), figures("b", (2, 2))]
    decided = choice.decide(measured, trials({"a": {"kd": 0.2, "mse": 4.0}, "b": {"kd": 1.5, "mse": 0.1}}), 0)
    assert (decided["choice"]["candidate"], decided["choice"]["detector"]) == ("a", "mse")
    assert decided["choice"]["too_close"] == []
    # Of the KD detectors that of b is better, and b is more brittle, too.
    assert decided["brittleness"][0]["choice"] == "b" and decided["brittleness"][0]["agrees"] is True


def test_brittleness_is_taken_at_the_error_that_all_students_reach():
    measured = [figures("a", (9, 1), ratios=(2.0, 1.0)), figures("b", (1, 3), ratios=(3.0, 1.5))]
    (group,) = choice.decide(measured, trials({"a": {"kd": 2.0}, "b": {"kd": 0.1}}), 0)["brittleness"]
    assert group["error_ratio"] == 1.5 and group["values"]["b"] == pytest.approx(3)
    share = np.log(2 / 1.5) / np.log(2)
    assert group["values"]["a"] == pytest.approx(9 - 8 * share)
    assert group["choice"] == "a" and group["agrees"] is True


def test_random_and_other_networks_are_not_compared():
    measured = [
        figures("random", (9, 9), is_reference=True),
        figures("a", (1, 1)),
        figures("lone", (5, 5), group="another network"),
    ]
    first, second = choice.decide(measured, trials({"a": {"kd": 1.0}, "lone": {"kd": 0.2}}), 0)["brittleness"]
    assert first["choice"] is None and second["choice"] is None  # a is alone without random


def test_a_choice_among_references_alone_is_refused():
    with pytest.raises(UserError, match="random is a reference only"):
        choice.decide([figures("random", (1, 1), is_reference=True)], {}, 0)


def test_regrets_by_hand():
    content = {
        "candidates": [
            {"name": "random", "is_reference": True, "rotations": {"kd": 1.0}, "anomalies": {"kd": {"scab": 1.0}}},
            {
                "name": "a",
                "is_reference": False,
                "rotations": {"kd": 0.9},
                "anomalies": {"kd": {"scab": 0.8, "rust": 0.6}},
            },
            {"name": "b", "is_reference": False, "rotations": None, "anomalies": {"kd": {"scab": 0.9, "rust": 0.7}}},
        ],
        "standings": [{"name": "a, kd", "auroc": 0.95}, {"name": "b, kd", "auroc": 0.9}],
        "brittleness": [{"group": "g", "choice": "b", "values": {"random": 9, "a": 1, "b": 2}}],
    }
    assert choice.regrets(content) == pytest.approx(
        {
            "synthetic anomalies": 0.1,
            "rotations": 0.1,
            "at random": 0.05,
            "brittleness, KD, g": 0.0,
            "synthetic anomalies, KD, g": 0.1,
            "at random, KD, g": 0.05,
        }
    )


class Estimated:
    def __init__(self, seconds):
        self.seconds = seconds


@pytest.fixture(scope="module")
def candidates(data_dir):
    def candidate(name, task, **options):
        config = shrink(image_folder_row("smoke"))
        config.network.name, config.teacher.task, config.data.dir = "mini", task, data_dir
        config.teacher.data = ""  # as in configs/image_folder.py
        config.data.max_train_samples, config.data.max_test_samples = 0, 0
        return Candidate(name, config, **options)

    return [candidate("random", "random", is_reference=True), candidate("rotnet", "rotnet")]


def choose(candidates, pictures, folder, **options):
    defaults = {"anomalies": {}, "budget_seconds": None, "most_pictures": 20, "num_students": 1, "seed": 0}
    return choice.choose(candidates, pictures, folder, **{**defaults, **options})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choice")
    save_noise(folder / "pictures" / "normal", 70)
    save_noise(folder / "anomalies", 12)
    return folder


@pytest.mark.usefixtures("empty_page")
def test_candidates_are_run_measured_and_tested_on_real_anomalies(candidates, pictures, tmp_path):
    anomalies = {"scratch": sorted((pictures / "anomalies").iterdir())}
    content = choose(candidates, pictures / "pictures", tmp_path, anomalies=anomalies, num_students=2)
    assert content["choice"]["candidate"] == "rotnet"  # random is none
    assert content["num_pictures"] == {"selection": 11, "test": 10}
    random, rotnet = content["candidates"]
    assert set(rotnet["synthetic"]) == set(DETECTORS)
    assert rotnet["rotations"] is None and set(random["rotations"]) == set(DETECTORS)
    assert len(rotnet["brittleness_of_students"]) == 2 == len(set(rotnet["brittleness_of_students"]))
    assert all(0 <= value["scratch"] <= 1 for value in rotnet["anomalies"].values())
    assert content["regrets"]["at random"] >= 0
    page = choice_page.write_page(tmp_path, content).read_text()
    assert "rotnet" in page and "regret" in page
    assert [each["num_skipped"] for each in content["candidates"]] == [0, 0]
    table = choice_page.table(content)
    assert f"--run={tmp_path / 'candidates' / 'rotnet'}" in table
    heading, line, *_ = table.splitlines()
    detector = content["choice"]["detector"]
    low, high = (100 * each for each in content["choice"]["interval"])
    assert f"[{low:.1f}, {high:.1f}]" in line and f"{rotnet['brittleness']:.4f} [" in line
    assert line[heading.index("spread") :].split()[:2] == [
        f"{rotnet[name][detector]:.2f}" for name in ("spread", "gap")
    ]


def test_a_choice_that_began_with_other_settings_is_refused(candidates, pictures, tmp_path):
    before = tmp_path / "candidates" / "rotnet"
    before.mkdir(parents=True)
    files.write_json(before / "config.json", {**flatten(completed(candidates[1].config)), "seed": 7})
    with pytest.raises(UserError, match="/rotnet belongs to a run with .*: this choice began with other .* --out$"):
        choose(candidates, pictures / "pictures", tmp_path)
    assert [each.name for each in (tmp_path / "candidates").iterdir()] == ["rotnet"]  # random has not run


def test_the_costliest_candidates_are_dropped_to_keep_the_budget(candidates, pictures, tmp_path, capsys):
    def estimate_of(job):
        return Estimated({"random": 30.0, "rotnet": 50.0}[job.name])

    with pytest.raises(UserError, match="the budget keeps no candidate"):
        choose(candidates, pictures / "pictures", tmp_path, budget_seconds=40.0, estimate_of=estimate_of)
    assert "rotnet would take about 50.0 s: dropped" in capsys.readouterr().err


def test_too_few_pictures_are_refused_before_any_candidate_runs(candidates, pictures, tmp_path):
    with pytest.raises(UserError, match="5 pictures would be held back to choose by, fewer than 10"):
        choose(candidates[1:], pictures / "pictures", tmp_path, most_pictures=5)
    assert not any(tmp_path.iterdir())


def test_references_alone_are_refused_before_any_candidate_runs(candidates, pictures, tmp_path):
    with pytest.raises(UserError, match="random is a reference only"):
        choose(candidates[:1], pictures / "pictures", tmp_path)
    assert not any(tmp_path.iterdir())


def test_anomalies_that_cannot_be_read_are_refused_before_any_candidate_runs(candidates, pictures, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    anomalies = {"scratch": [*(pictures / "anomalies").iterdir(), damaged]}
    with pytest.raises(UserError, match=r"the anomaly .*damaged.png cannot be used \(not a picture\)"):
        choose(candidates, pictures / "pictures", tmp_path / "choice", anomalies=anomalies)
    assert not (tmp_path / "choice").exists()


def test_a_choice_that_is_no_better_than_chance_is_said_to_be(tmp_path):
    measured = [figures("a", (1, 1))]
    useless = {f"a, {name}": Trial(NORMAL, {"scar": NORMAL + 0.01 * RNG.normal(size=40)}) for name in DETECTORS}
    content = {
        "candidates": [{**measured[0], "run": "a", "command": ""}],
        **choice.decide(measured, useless, 0),
        "regrets": {},
    }
    assert any("no better than chance" in sentence for sentence in choice_page.sentences(content))
