import csv
import json

import numpy as np
import pytest

from brittle_jax import results
from brittle_jax.errors import UserError
from brittle_jax.metric_log import MetricLog
from brittle_jax.published import published_row


def entry(name, group, kd, brittleness):
    aurocs = {detector: kd for detector in results.DETECTORS}
    return {"name": name, "group": group, "auroc": aurocs, "brittleness": brittleness}


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (None, "nothing to learn"),
        (1.0, "has not learned"),
        (0.99, "begun"),
        (0.5, "begun"),
        (0.49, "most of"),
        (0.1, "most of"),
        (0.09, "closely"),
    ],
)
def test_how_far_a_student_has_come_is_said_in_words(ratio, words):
    assert words in results.how_far_in_words(ratio)


def test_scores_are_written_exactly(tmp_path):
    scores = {"kd": np.array([0.1, 1 / 3], np.float32), "mse": np.array([1e-9, 2.0])}
    results.write_scores(tmp_path / "unimodal" / "cat.csv", ["a,b", "c"], [0, 1], scores)
    with open(tmp_path / "unimodal" / "cat.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == ["a,b", "c"]
    assert [line["label"] for line in lines] == ["0", "1"]
    assert np.float32(lines[1]["kd"]) == scores["kd"][1]
    assert float(lines[0]["mse"]) == 1e-9


def test_the_summary_averages_each_group():
    entries = [entry("unimodal/cat", "unimodal", 0.6, 0.1), entry("unimodal/dog", "unimodal", 0.8, 0.3)]
    summary = results.summarise([*entries, entry("multimodal/cat", "multimodal", 0.5, 0.2)])
    assert list(summary) == ["unimodal", "multimodal"]
    assert summary["unimodal"]["auroc"]["kd"] == pytest.approx(0.7)
    assert summary["unimodal"]["brittleness"] == pytest.approx(0.2)
    assert summary["unimodal"]["num_configurations"] == 2


def probe(accuracy, balanced_accuracy, auroc):
    return {
        "probe": {
            "accuracy": accuracy,
            "balanced_accuracy": balanced_accuracy,
            "auroc": auroc,
            "majority_accuracy": 0.75,
        }
    }


def test_probes_have_means_and_deviations_over_configurations():
    summary = results.summarise_probes([probe(0.5, 0.2, 0.6), probe(0.9, 0.8, 0.8)])
    assert summary == pytest.approx(
        {
            "probe_accuracy": 0.7,
            "probe_accuracy_sd": 0.2,
            "probe_balanced_accuracy": 0.5,
            "probe_balanced_accuracy_sd": 0.3,
            "probe_auroc": 0.7,
            "probe_auroc_sd": 0.1,
            "probe_majority_accuracy": 0.75,
        }
    )


def test_what_a_probe_could_not_tell_has_no_mean():
    summary = results.summarise_probes([probe(0.5, 0.5, None), probe(0.5, 0.5, 0.5)])
    assert (summary["probe_auroc"], summary["probe_auroc_sd"], summary["probe_balanced_accuracy"]) == (None, None, 0.5)
    without = results.summarise_probes([{"probe": None}])
    assert without.keys() == summary.keys() and set(without.values()) == {None}


def test_a_probe_of_an_earlier_version_has_its_accuracy_alone():
    summary = results.summarise_probes([{"probe": {"accuracy": 0.5}}])
    known = {name: value for name, value in summary.items() if value is not None}
    assert known == {"probe_accuracy": 0.5, "probe_accuracy_sd": 0.0}


def test_the_table_puts_ours_beside_the_published_numbers():
    entries = [
        entry("unimodal/cat", "unimodal", 0.61239, 0.1),
        entry("unimodal/dog", "unimodal", 0.61239, 0.1),
        entry("multimodal/dog", "multimodal", 0.5, 0.2),
    ]
    content = {
        "configurations": entries,
        "summary": results.summarise(entries),
        "published": published_row("cifar10_random"),
        "random_on_same_test": [],
    }
    lines = [line.split() for line in results.table(content).splitlines()]
    assert lines[0] == ["unimodal,", "mean", "of", "2", "ours", "published", "unimodal", "mean"]
    assert lines[1] == ["AUROC", "kd", "61.24", "60.09"]
    assert lines[5] == ["brittleness", "0.10000", "0.05300"]
    assert lines[6] == ["multimodal/dog", "ours", "published", "multimodal", "mean"]
    assert lines[7] == ["AUROC", "kd", "50.00", "50.98"]
    without = results.table({**content, "published": None}).splitlines()
    assert without[1].split() == ["AUROC", "kd", "61.24"]


def over_seeds(names, published):
    """Returns, of the results of a repeated row, what its table shows."""

    def numbers(value):
        return {"auroc": dict.fromkeys(results.DETECTORS, value), "brittleness": value / 10, "probe_accuracy": value}

    group = "unimodal" if "/" in names[0] else "all"
    summary = {**numbers(0.5), "sd_over_seeds": numbers(0.02), "sd_over_configurations": numbers(0.1)}
    if len(names) == 1:
        summary["sd_over_configurations"] = {**dict.fromkeys(summary), "auroc": dict.fromkeys(results.DETECTORS)}
    entries = [{"name": name, "group": group} for name in names]
    return {"configurations": entries, "summary": {group: summary}, "published": published_row(published)}


def test_the_table_of_a_repeated_row_has_means_and_deviations():
    content = over_seeds(["unimodal/cat", "unimodal/dog"], "cifar10_random")
    lines = [line.split() for line in results.table_over_seeds(content).splitlines()]
    assert " ".join(lines[0]) == "unimodal, mean of 2 mean sd over seeds sd over configurations published unimodal mean"
    assert lines[1] == ["AUROC", "kd", "50.00", "2.00", "10.00", "60.09"]
    assert lines[5] == ["brittleness", "0.05000", "0.00200", "0.01000", "0.05300"]
    assert lines[6][:5] == ["probe", "accuracy", "50.00", "2.00", "10.00"] and len(lines) == 7


def test_the_table_of_a_repeated_row_finds_what_is_published_of_one_configuration():
    lines = [line.split() for line in results.table_over_seeds(over_seeds(["soc"], "xray_rotnet")).splitlines()]
    assert lines[0][0] == "all" and lines[0][-1] == "published"
    assert lines[1] == ["AUROC", "kd", "50.00", "2.00", "-", "96.41"]
    lines = [line.split() for line in results.table_over_seeds(over_seeds(["normal"], "image_folder")).splitlines()]
    assert "published" not in lines[0] and lines[1] == ["AUROC", "kd", "50.00", "2.00", "-"]


def test_the_table_finds_a_configuration_of_its_own():
    entries = [entry("soc", "all", 0.9, 0.1)]
    content = {
        "configurations": entries,
        "summary": results.summarise(entries),
        "published": published_row("xray_rotnet"),
        "random_on_same_test": [entries[0]],
    }
    lines = [line.split() for line in results.table(content).splitlines()]
    assert lines[0] == ["soc", "ours", "published"]
    assert lines[1] == ["AUROC", "kd", "90.00", "96.41"]


def test_a_run_without_published_numbers_has_values_not_ours():
    entries = [entry("normal", "all", 0.9, 0.1)]
    content = {"configurations": entries, "summary": results.summarise(entries), "published": None}
    (comparison,) = results.compare(content)
    assert (comparison.title, comparison.value_title, comparison.published_title) == ("normal", "value", "")
    lines = [line.split() for line in results.table({**content, "random_on_same_test": []}).splitlines()]
    assert lines[0] == ["normal", "value"] and lines[-1] == ["brittleness", "0.10000"]


def kind(num_test, kd, mse):
    return {"num_test": num_test, "auroc": dict(zip(results.DETECTORS, (kd, mse, 0.5, 0.25), strict=True))}


def test_the_table_has_each_kind_of_anomaly_the_worst_first():
    entries = [entry("normal", "all", 0.9, 0.1)]
    entries[0]["by_kind"] = {"scab": kind(40, 0.764, 0.7), "rust_of_the_leaves_and_of_the_twigs": kind(7, 0.585, 0.6)}
    content = {"configurations": entries, "summary": results.summarise(entries), "published": None}
    lines = results.table({**content, "random_on_same_test": []}).splitlines()
    assert [line.split() for line in lines[-3:]] == [
        ["AUROC", "by", "kind", "of", "anomaly", *results.DETECTORS],
        ["rust_of_the_leaves_and_of_the_twigs", "(7)", "58.50", "60.00", "50.00", "25.00"],
        ["scab", "(40)", "76.40", "70.00", "50.00", "25.00"],
    ]
    assert len({len(line) for line in lines[-3:]}) == 1  # in columns


def test_the_table_says_how_well_places_are_found():
    entries = [entry("soc", "all", 0.9, 0.1), entry("other", "all", 0.9, 0.1)]
    by_detector = dict(zip(results.DETECTORS, (0.5, 0.25, 1.0, 0.0), strict=True))
    entries[0]["localisation"] = {"num_samples": 12, "hit_rate": by_detector, "random_hit_rate": 0.3}
    entries[1]["localisation"] = {"num_masks": 7, "num_normal": 4, "pixel_auroc": dict.fromkeys(results.DETECTORS)}
    content = {"configurations": entries, "summary": results.summarise(entries), "published": None}
    lines = [line.split() for line in results.table({**content, "random_on_same_test": []}).splitlines()[-5:]]
    heading = ["where", "scores", "come", "from,", "%", *results.DETECTORS]
    assert lines == [
        heading,
        ["deciding", "patch", "hits", "(12)", "50.00", "25.00", "100.00", "0.00"],
        ["a", "random", "patch", "would", "hit", "30.00", "30.00", "30.00", "30.00"],
        heading,
        ["pixel", "AUROC", "(7", "masks)", "-", "-", "-", "-"],
    ]


def test_the_mean_of_several_configurations_has_no_kinds():
    entries = [entry(f"unimodal/{name}", "unimodal", 0.9, 0.1) for name in ("cat", "dog")]
    for each in entries:
        each["by_kind"] = {"a": kind(4, 0.5, 0.5), "b": kind(4, 0.5, 0.5)}
    content = {"configurations": entries, "summary": results.summarise(entries), "published": None}
    assert [comparison.by_kind for comparison in results.compare(content)] == [{}]


def test_scores_are_read_as_they_were_written(tmp_path):
    scores = {"kd": np.array([0.1, 1 / 3], np.float32), "mse": np.array([1e-9, 2.0])}
    results.write_scores(tmp_path / "cat.csv", ["a,\nb", '"c'], [0, 1], scores)
    ids, labels, read = results.read_scores(tmp_path / "cat.csv")
    assert ids == ["a,\nb", '"c']
    np.testing.assert_array_equal(labels, [0, 1])
    assert list(read) == ["kd", "mse"]
    for name, values in scores.items():
        np.testing.assert_array_equal(read[name], values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is missing: restore"),
        ("", "is damaged (not enough values"),
        ("id,label,kd\n", "is damaged (no samples, or a line that is longer or shorter than the first"),
        ("id,label,kd\na,0,0.5\nb,1\n", "is damaged (no samples, or a line that is longer or shorter than the first"),
        ("id,label,kd\na,0,0.5\nb,1,o.7\n", "is damaged (could not convert string to float"),
        ("id,label,kd\na,0,0.5\nb,3,0.7\n", "is damaged (a label that is not 0 or 1"),
        ("id,label,kd\na,0,0.5\nb,1,inf\n", "is damaged (a label that is not 0 or 1, or a score"),
        ("id,label,ke\na,0,0.5\n", "is damaged (unknown columns id, label, ke)"),
        ('id,label,kd\n"a,0,0.5\n', "is damaged (unexpected end of data)"),
    ],
)
def test_damaged_scores_are_one_line_that_names_the_file(tmp_path, text, message):
    path = tmp_path / "soc.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        results.read_scores(path)
    assert str(raised.value).startswith(f"{path} {message}")
    assert str(raised.value).endswith("restore it from a copy, or run the command that wrote it again")
    assert "\n" not in str(raised.value)


def test_metrics_that_are_not_there_are_none(tmp_path):
    assert results.read_metrics(tmp_path) == {}


@pytest.mark.parametrize(
    "line",
    [
        "7",
        "null",
        "[1]",
        '"stage"',
        "{}",
        '{"stage": "a", "step": 2}',
        '{"stage": 1, "step": 2, "loss": 1}',
        '{"stage": "a", "step": 2.5, "loss": 1}',
        '{"stage": "a", "step": true, "loss": 1}',
        '{"stage": "a", "step": 2, "loss": "1"}',
        '{"stage": "a", "step": 2, "loss": NaN}',
        '{"stage": "a", "step": 2, "loss": 1' + 400 * "0" + "}",
        "[" * 100_000,
        "\ufffd",
    ],
)
def test_lines_that_are_no_records_are_left_out(tmp_path, line):
    record = {"stage": "a", "step": 1, "loss": 2.0}
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(record)}\n{line}\n", encoding="utf-8")
    assert results.read_metrics(tmp_path) == {"a": [record]}


def test_a_stage_that_was_started_again_counts_once(tmp_path):
    lines = [("a", 1, 9.0), ("a", 2, 8.0), ("b", 1, 7.0), ("a", 1, 6.0), ("a", 2, 5.0), ("a", 3, 4.0)]
    text = "".join(json.dumps({"stage": stage, "step": step, "loss": loss}) + "\n" for stage, step, loss in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    stages = results.read_metrics(tmp_path)
    assert {stage: [record["loss"] for record in records] for stage, records in stages.items()} == {
        "a": [6.0, 5.0, 4.0],
        "b": [7.0],
    }


def test_of_a_training_that_went_on_each_update_counts_once(tmp_path):
    """It was killed after update 5, at which it was kept up to update 2; then after 4, and goes on from 3."""
    for part, updates in enumerate([range(1, 6), range(3, 5), range(4, 8)]):
        log = MetricLog(tmp_path)
        for update in updates:
            log.write("distill a", update, {"loss": part + update / 10})
            log.write("distill b", update, {"loss": float(part)})
        log.close()
    records = results.read_metrics(tmp_path)
    assert [(record["step"], record["loss"]) for record in records["distill a"]] == [
        (1, 0.1),
        (2, 0.2),
        (3, 1.3),
        *((update, 2 + update / 10) for update in range(4, 8)),
    ]
    assert [record["loss"] for record in records["distill b"]] == [0, 0, 1, 2, 2, 2, 2]


def test_a_line_that_a_killed_run_left_half_written_costs_only_itself(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"stage": "a", "step": 1, "loss": 2.0}\n{"stage": "a", "st')
    log = MetricLog(tmp_path)
    log.write("a", 1, {"loss": 3.0})
    log.write("a", 2, {"loss": 4.0})
    log.close()
    assert [record["loss"] for record in results.read_metrics(tmp_path)["a"]] == [3.0, 4.0]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"recommended": {"detector": "mse", "why": ""}}, "mse"),
        ({"recommended": {"detector": "best"}}, "kd"),
        ({"recommended": "mse"}, "kd"),
        ({}, "kd"),
    ],
)
def test_the_recommended_detector_is_kd_where_none_is_named(entry, expected):
    assert results.recommended_detector(entry) == expected
