"""The page of a row over several seeds, made from the content of its results.json."""

import pytest

from brittle_jax.published import published_row
from brittle_jax.report.page import is_sound
from brittle_jax.report.seeds_page import write_page
from brittle_jax.results import DETECTORS
from tests.report.parsed_page import Page, rows_of

UNKNOWN = {"auroc": dict.fromkeys(DETECTORS), "brittleness": None, "probe_accuracy": None}


def numbers(kd, brittleness, probe_accuracy):
    return {"auroc": dict.fromkeys(DETECTORS, kd), "brittleness": brittleness, "probe_accuracy": probe_accuracy}


def content_of(**changes):
    """Returns the content of a results.json, of two seeds of a row of two configurations."""
    sd = numbers(0.02, 0.003, 0.04)
    entries = [
        {"name": f"unimodal/{name}", "group": "unimodal", **numbers(kd, 0.05, 0.3), "sd_over_seeds": sd}
        for name, kd in (("cat", 0.6), ("<b>dog</b>", 0.7))
    ]
    mean = numbers(0.65, 0.05, 0.3)
    content = {
        "row": "cifar10_fmnist_rotnet",
        "dataset": "cifar10",
        "data_path": None,
        "teacher": {"task": "rotnet", "dataset": "fashion_mnist"},
        "synthetic_data": False,
        "reduced": {},
        "published": published_row("cifar10_fmnist_rotnet"),
        "runs": [
            {"seed": seed, "folder": f"seed-{seed}", "summary": {"unimodal": mean}, "probe_accuracy": 0.3}
            for seed in (0, 10)
        ],
        "configurations": entries,
        "summary": {"unimodal": {**mean, "sd_over_seeds": sd, "sd_over_configurations": numbers(0.07, 0.001, 0.0)}},
        "random_on_same_test": [],
        "skipped_inputs": [],
        "finished_at": "2021-04-21T00:00:00+00:00",
    }
    return content | changes


def page_of(folder, content):
    return Page(write_page(folder, content).read_text(encoding="utf-8"))


def test_means_and_deviations_stand_beside_the_published_means(tmp_path):
    page = page_of(tmp_path, content_of())
    assert is_sound(tmp_path)
    published = content_of()["published"]
    kd, brittleness = (
        f"{value:.{n}f}"
        for value, n in (
            (100 * published["groups"]["unimodal"]["auroc"]["kd"], 2),
            (published["groups"]["unimodal"]["brittleness"], 5),
        )
    )
    (table,) = page.find("table", class_="over-seeds")
    assert table.find("caption")[0].text == "unimodal, mean of 2"
    rows = rows_of(table)
    assert rows[0] == ["", "mean", "sd over seeds", "sd over configurations", "published unimodal mean"]
    assert rows[1] == ["KD", "65.00", "2.00", "7.00", kd]
    assert rows[5] == ["brittleness", "0.05000", "0.00300", "0.00100", brittleness]
    assert rows[6][:4] == ["probe accuracy", "30.00", "4.00", "0.00"]


def test_runs_are_linked_and_configurations_listed(tmp_path):
    page = page_of(tmp_path, content_of())
    assert [each["href"] for each in page.all("a")] == ["../seed-0/report/index.html", "../seed-10/report/index.html"]
    (runs,), (configurations,) = page.find("table", class_="runs"), page.find("table", class_="configurations")
    assert rows_of(runs)[1:] == [[f"seed {seed}", "65.00", "0.05000", "30.00"] for seed in (0, 10)]
    rows = rows_of(configurations)
    assert [row[0] for row in rows[1:]] == ["unimodal/cat", "unimodal/<b>dog</b>"]
    assert rows[1][1] == "60.00 ± 2.00" and rows[1][5] == "0.05000 ± 0.00300"


def test_what_is_unknown_is_a_dash(tmp_path):
    content = content_of(published=None)
    content["summary"]["unimodal"] |= {"sd_over_seeds": UNKNOWN, "sd_over_configurations": UNKNOWN}
    page = page_of(tmp_path, content)
    (table,) = page.find("table", class_="over-seeds")
    assert rows_of(table)[1] == ["KD", "65.00", "-", "-"] and rows_of(table)[5] == ["brittleness", "0.05000", "-", "-"]
    assert "ublished" not in page.text


@pytest.mark.parametrize("is_synthetic", [False, True])
@pytest.mark.parametrize("reduced", [{}, {"distill.num_epochs": [20, 2]}])
def test_what_is_synthetic_or_reduced_is_marked(tmp_path, is_synthetic, reduced):
    page = page_of(tmp_path, content_of(synthetic_data=is_synthetic, reduced=reduced))
    marks = [each["class"] for each in page.all("span")].count("mark")
    assert marks == is_synthetic + bool(reduced)
    assert ("Synthetic data." in page.text, "Reduced." in page.text) == (is_synthetic, bool(reduced))


def test_samples_that_were_left_out_are_counted(tmp_path):
    assert "Without 2 samples" in page_of(tmp_path, content_of(skipped_inputs=[["a", "b"], ["c", "d"]])).text


def test_another_teacher_than_the_rows_own_is_named(tmp_path):
    reduced = {"teacher.task": ["imagenet", "imagenet_lite"]}
    page = page_of(tmp_path, content_of(reduced=reduced, teacher={"task": "imagenet_lite", "dataset": None}))
    assert "The teacher here is imagenet_lite ; the row's own is imagenet ." in " ".join(page.text.split())
    assert "Another teacher" not in page_of(tmp_path, content_of()).text
