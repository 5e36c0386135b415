import shutil
import statistics

import ml_collections
import pytest

from brittle_jax.errors import BusyError, Interrupted, UserError
from brittle_jax.recipes import small_resnet_row
from brittle_jax.run import experiment, holding, repeats
from tests.report.parsed_page import Page, rows_of
from tests.small_runs import read, shrink, without_times

NAMES = ["unimodal/airplane", "unimodal/cat"]


@pytest.fixture(scope="module")
def config(data_dir) -> ml_collections.ConfigDict:
    """Two seeds of a row that takes seconds; not to be changed."""
    config = small_resnet_row("cifar10_random", "smoke", data="cifar10", teacher="random")
    config.data.dir, config.network.name, config.seeds = data_dir, "mini", "1,3"
    shrink(config).data.configurations = ",".join(NAMES)
    return config.lock()


@pytest.fixture(scope="module")
def repeated(tmp_path_factory, config):
    """The folder of the finished row of `config`; not to be changed."""
    folder = tmp_path_factory.mktemp("repeated") / "run"
    repeats.run(config, folder)
    return folder


def changed(config, **fields):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    return config


def contents_of(folder):
    """Returns the bytes of all files of a repeated row, but for locks."""
    return {
        file.relative_to(folder): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def measured(entry):
    return {**entry["auroc"], "brittleness": entry["brittleness"], "probe": entry["probe"]["accuracy"]}


def flat(numbers):
    return {**numbers["auroc"], "brittleness": numbers["brittleness"], "probe": numbers["probe_accuracy"]}


@pytest.mark.usefixtures("empty_page")
def test_each_seed_has_a_run_that_equals_a_single_one(repeated, config, tmp_path):
    experiment.run(changed(config, seed=3, seeds=""), tmp_path / "run")
    assert without_times(read(repeated / "seed-3", "results.json")) == without_times(
        read(tmp_path / "run", "results.json")
    )
    assert sorted(each.name for each in repeated.glob("seed-*")) == ["seed-1", "seed-3"]
    assert "teacher.store" not in read(repeated / "seed-3", "results.json")["reduced"]


def test_means_and_deviations_are_those_of_the_runs(repeated):
    results = read(repeated, "results.json")
    runs = [read(repeated / f"seed-{seed}", "results.json") for seed in (1, 3)]
    by_name = {}  # of each configuration, its numbers in both runs
    for position, entry in enumerate(results["configurations"]):
        numbers = [measured(each["configurations"][position]) for each in runs]
        by_name[entry["name"]] = numbers
        for name, value in flat(entry).items():
            assert value == pytest.approx(statistics.mean(each[name] for each in numbers))
        for name, value in flat(entry["sd_over_seeds"]).items():
            assert value == pytest.approx(statistics.stdev(each[name] for each in numbers))
    assert list(by_name) == NAMES and by_name[NAMES[0]][0] != by_name[NAMES[0]][1]
    summary = results["summary"]["unimodal"]
    first, second = by_name["unimodal/airplane"], by_name["unimodal/cat"]
    for name, value in flat(summary).items():
        by_seed = [(one[name] + other[name]) / 2 for one, other in zip(first, second, strict=True)]
        by_configuration = [statistics.mean(each[name] for each in numbers) for numbers in (first, second)]
        assert value == pytest.approx(statistics.mean(by_seed))
        assert flat(summary["sd_over_seeds"])[name] == pytest.approx(statistics.stdev(by_seed))
        assert flat(summary["sd_over_configurations"])[name] == pytest.approx(statistics.stdev(by_configuration))
    assert summary["num_configurations"] == 2


def test_the_results_name_the_runs(repeated):
    results = read(repeated, "results.json")
    assert [(each["seed"], each["folder"]) for each in results["runs"]] == [(1, "seed-1"), (3, "seed-3")]
    runs = [read(repeated / each["folder"], "results.json") for each in results["runs"]]
    for each, content in zip(results["runs"], runs, strict=True):
        for name in ("seed", "seeds", "summary", "probe_accuracy"):
            assert each[name] == content[name]
    assert results["seconds"]["distill"] == pytest.approx(sum(each["seconds"]["distill"] for each in runs))
    assert results["finished_at"] == runs[1]["finished_at"]
    assert results["synthetic_data"] is True and results["reduced"] == {}
    assert (results["row"], results["word"], results["format_version"]) == ("cifar10_random", "smoke", 1)


def test_the_page_shows_the_means_and_leads_to_the_runs(repeated):
    page = Page((repeated / "report" / "index.html").read_text(encoding="utf-8"))
    links = [attributes["href"] for attributes in page.all("a")]
    assert links == ["../seed-1/report/index.html", "../seed-3/report/index.html"]
    assert all((repeated / "report" / link).is_file() for link in links)
    summary = read(repeated, "results.json")["summary"]["unimodal"]
    kd = [summary, summary["sd_over_seeds"], summary["sd_over_configurations"]]
    table, *_ = page.find("table", class_="over-seeds")
    assert rows_of(table)[1][:4] == ["KD", *(f"{100 * each['auroc']['kd']:.2f}" for each in kd)]


def test_a_finished_row_is_left_as_it_is(repeated, config, capsys):
    before = contents_of(repeated)
    again = repeats.run(config, repeated)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(f"{repeated} is finished")]
    assert contents_of(repeated) == before
    assert again["summary"] == read(repeated, "results.json")["summary"]


def test_what_is_lost_of_a_finished_row_is_written_again(repeated, config, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(repeated, folder)
    before = contents_of(folder)
    shutil.rmtree(folder / "report")
    repeats.run(config, folder)
    assert contents_of(folder) == before
    (folder / "results.json").write_text("{}")
    (folder / "seed-3" / "results.json").unlink()
    capsys.readouterr()
    repeats.run(config, folder)
    printed = capsys.readouterr()
    assert f"{folder} was finished, but has changed since: results.json (changed)" in printed.err
    assert read(folder, "results.json")["summary"] == read(repeated, "results.json")["summary"]


@pytest.mark.usefixtures("empty_page")
def test_an_interrupted_row_goes_on_with_the_seed_at_hand(repeated, config, tmp_path, monkeypatch, capsys):
    folder, calls = tmp_path / "run", []

    def interrupted(row, *others):
        calls.append(row.config.seed)
        if calls == [1, 1, 3, 3]:
            raise Interrupted("SIGTERM")
        return evaluate(row, *others)

    evaluate = experiment.evaluate_detector
    monkeypatch.setattr(experiment, "evaluate_detector", interrupted)
    with pytest.raises(Interrupted):
        repeats.run(config, folder)
    holding.check_free(folder)
    assert not (folder / "results.json").exists() and (folder / "seed-1" / "results.json").exists()
    capsys.readouterr()
    repeats.run(config, folder)
    assert calls == [1, 1, 3, 3, 3]  # nothing of seed 1 again, nor the first configuration of seed 3
    printed = capsys.readouterr().out
    assert f"{folder / 'seed-1'} is finished" in printed and "unimodal/airplane: finished before" in printed
    assert read(folder, "results.json")["summary"] == read(repeated, "results.json")["summary"]


@pytest.mark.usefixtures("empty_page")
def test_overwrite_starts_all_seeds_anew_even_if_it_is_interrupted(repeated, config, tmp_path, monkeypatch):
    folder, seeds = tmp_path / "run", []
    shutil.copytree(repeated, folder)
    (folder / "seed-3" / "thesis.tex").write_text("mine")

    def interrupted(row, *others):
        seeds.append(row.config.seed)
        if len(seeds) == 1:
            raise Interrupted("SIGTERM")
        return evaluate(row, *others)

    evaluate = experiment.evaluate_detector
    monkeypatch.setattr(experiment, "evaluate_detector", interrupted)
    other = changed(config, **{"distill.update_steps": 5, "data.configurations": NAMES[0]})
    with pytest.raises(Interrupted):
        repeats.run(other, folder, overwrite=True)
    assert not (folder / "results.json").exists() and not (folder / "seed-3" / "results.json").exists()
    (folder / "seed-3" / "thesis.tex").unlink()  # nothing but a run's files is ever deleted
    repeats.run(other, folder)
    assert seeds == [1, 1, 3]
    assert read(folder / "seed-3", "config.json")["distill.update_steps"] == 5


@pytest.mark.usefixtures("empty_page")
def test_a_single_run_in_the_place_of_a_repeated_row_replaces_it(repeated, config, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(repeated, folder)
    with pytest.raises(UserError, match="belongs to a run with seeds='1,3', not ''"):
        repeats.run(changed(config, seeds=""), folder)
    single = changed(config, seeds="", **{"data.configurations": NAMES[0]})
    results = repeats.run(single, folder, overwrite=True)
    assert "runs" not in results and [entry["name"] for entry in results["configurations"]] == NAMES[:1]
    assert {file.name for file in folder.glob("seed-*/*")} <= {".lock"}
    with pytest.raises(UserError, match="belongs to a run with seeds='', not '1,3'"):
        repeats.run(changed(single, seeds="1,3"), folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": "1,3,5"}, "run belongs to a run with seeds='1,3', not '1,3,5'"),
        ({"distill.update_steps": 5}, "run belongs to a run with distill.update_steps=4, not 5"),
    ],
)
def test_another_rows_folder_is_refused(repeated, config, fields, message):
    before = contents_of(repeated)
    with pytest.raises(UserError, match=message):
        repeats.run(changed(config, **fields), repeated)
    assert contents_of(repeated) == before


def test_a_folder_of_another_run_in_the_place_of_a_seed_is_refused_before_the_first_seed(config, tmp_path):
    (tmp_path / "run" / "seed-3").mkdir(parents=True)
    (tmp_path / "run" / "seed-3" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty, and has no config.json of a run"):
        repeats.run(config, tmp_path / "run")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["seed-3"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("distill.batch_size", 30, "distill.batch_size=30 cannot be shared evenly by 4"),
        ("data.dir", "nowhere", "data.dir=nowhere: no such folder"),
        ("teacher.from_run", "{folder}/seed-1", "is inside this run's own folder: name another"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_mistake_leaves_everything_as_it_was(repeated, config, tmp_path, field, value, message, overwrite):
    folder = repeated if overwrite else tmp_path / "run"
    value = value.format(folder=folder) if isinstance(value, str) else value
    before = contents_of(repeated)
    with pytest.raises(UserError, match=message):
        repeats.run(changed(config, **{field: value}), folder, overwrite=overwrite)
    assert contents_of(repeated) == before and not (tmp_path / "run").exists()


def test_a_row_that_another_process_runs_is_busy(repeated, config, tmp_path):
    shutil.copytree(repeated, tmp_path / "run")
    with holding.hold(tmp_path / "run"), pytest.raises(BusyError, match="run is in use by process"):
        repeats.run(config, tmp_path / "run", overwrite=True)
    assert contents_of(tmp_path / "run") == contents_of(repeated)


def test_one_seed_has_no_deviation(config, tmp_path):
    results = repeats.run(changed(config, seeds="2", **{"data.configurations": NAMES[0]}), tmp_path / "run")
    (entry,), summary = results["configurations"], results["summary"]["unimodal"]
    for deviations in (entry["sd_over_seeds"], summary["sd_over_seeds"], summary["sd_over_configurations"]):
        assert set(flat(deviations).values()) == {None}
    assert summary["auroc"] == read(tmp_path / "run" / "seed-2", "results.json")["summary"]["unimodal"]["auroc"]


def test_a_run_of_one_seed_takes_no_seeds(config, tmp_path):
    with pytest.raises(ValueError, match="seeds='1,3': call repeats.run"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
