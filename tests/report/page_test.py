"""The page of a row, made from a folder as a run writes it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from brittle_jax import files, results
from brittle_jax.errors import UserError
from brittle_jax.report.page import write_page
from brittle_jax.results import DETECTORS
from tests.report.made_up_runs import EVIL, read_page, write_run
from tests.report.parsed_page import Page, rows_of


def test_the_page_needs_nothing_beside_it_and_asks_no_network(of_row):
    page = of_row.page
    assert sorted(file.name for file in (of_row.folder / "report").iterdir()) == ["index.html", "manifest.json"]
    targets = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster")
    ]
    assert targets and all(target.startswith(("#", "data:")) for target in targets)
    css = (of_row.folder / "report" / "index.html").read_text(encoding="utf-8").partition("</style>")[0]
    assert "@import" not in css and "url(" not in css and "http" not in css


def test_inner_links_and_ids_fit(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, reduced={"distill.num_epochs": [20, 2]}))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    wanted = {
        value[1:] for _, attributes in page.elements for value in attributes.values() if value and value[0] == "#"
    }
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    wanted |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert wanted <= set(ids)
    assert "reduced" in wanted
    referred = [each for each in ids if each in wanted]
    assert len(referred) == len(set(referred))


def test_every_picture_says_what_it_shows(of_row):
    page = of_row.page
    pictures = page.all("svg")
    # Overview; views of three sample cards, plots, student; shared teacher.
    assert len(pictures) == 1 + 2 * (2 * 3 + 2 * len(DETECTORS) + 1) + 1
    assert all(picture["role"] == "img" and len(picture["aria-label"]) > 10 for picture in pictures)
    (frame, *_) = [rect for rect in page.all("rect") if rect.get("class") == "frame"]
    assert (frame["x"], frame["y"], frame["width"], frame["height"]) == ("3", "2", "19", "18")
    assert any("pixels 3 to 22 across and 2 to 20 down" in picture["aria-label"] for picture in pictures)
    plots = [picture["aria-label"] for picture in pictures if " view" not in picture["aria-label"]]
    assert len(plots) == len(set(plots))


def test_cards_say_what_a_sample_is_and_show_it_in_its_shape(of_row):
    page = of_row.page
    assert "Most anomalous top, decided side anomalous (cat) KD score 1.5" in page.text
    assert "Normal with the highest scores top, decided side normal (dog) KD score 0.25" in page.text
    views = [picture for picture in page.all("svg") if "view" in picture["aria-label"]]
    assert [view["viewbox"] for view in views[:4]] == 2 * ["0 0 60 40"] + 2 * ["0 0 600 400"]
    assert [view["class"] for view in views[:4]] == 2 * ["small"] + 2 * [""]
    assert page.all("figure")[0]["class"] == "sample anomalous" and page.all("figure")[1]["class"] == "sample normal"


def test_each_detector_has_its_own_plots(of_row):
    content, page = of_row.content, of_row.page
    labels = " ".join(picture["aria-label"] for picture in page.all("svg"))
    for entry in content["configurations"]:
        _, csv_labels, scores = results.read_scores(of_row.folder / "scores" / f"{entry['name']}.csv")
        titles = {"kd": "KD", "mse": "MSE", "mahalanobis_diag": "Mahalanobis, diagonal"}
        titles["mahalanobis_full"] = "Mahalanobis, full"
        for detector in DETECTORS:
            low, high = (100 * bound for bound in entry["auroc_interval"][detector])
            assert (
                f"{entry['name']}: ROC curve of {titles[detector]}, area {100 * entry['auroc'][detector]:.1f}%, "
                f"95% interval {low:.1f}% to {high:.1f}%."
            ) in labels
            median = np.median(scores[detector][csv_labels == 1])
            assert f"{titles[detector]} scores of 30 normal samples" in labels
            assert f"20 anomalous ones, median {median:.3g}." in labels


def test_the_numbers_stand_beside_the_published_ones(of_row):
    content, page = of_row.content, of_row.page
    published = content["published"]["groups"]["unimodal"]["auroc"]["kd"]
    actual = content["summary"]["unimodal"]["auroc"]["kd"]
    assert f"KD {100 * actual:.2f} {100 * published:.2f} {100 * (actual - published):+.2f}" in page.text
    assert "brittleness 0.02500 " in page.text
    low, high = content["configurations"][0]["auroc_interval"]["mse"]
    assert f"[{100 * low:.2f}, {100 * high:.2f}]" in page.text
    assert "held-out accuracy at its own task: 87.65%" in page.text
    assert "2 min 05 s 512 MiB" in page.text
    assert "pixel scale [0, 1]" in page.text and "ridge" not in page.text


OTHER_TEACHER = {
    "reduced": {"teacher.task": ["imagenet", "imagenet_lite"]},
    "teacher": {"task": "imagenet_lite", "dataset": None},
}


@pytest.mark.parametrize(
    ("changes", "is_said"),
    [
        (OTHER_TEACHER, True),
        ({**OTHER_TEACHER, "dataset": "xray", "data_path": "/scans"}, True),
        ({**OTHER_TEACHER, "dataset": "image_folder", "data_path": "/pictures"}, False),  # which has two defaults
        ({"reduced": {"distill.num_epochs": [20, 2]}}, False),
    ],
)
def test_another_teacher_than_the_rows_own_is_named_at_the_top(tmp_path, changes, is_said):
    page = read_page(tmp_path, write_run(tmp_path, **changes))
    top = " ".join(page.text.split()).partition("see which")[0]
    assert ("The teacher here is imagenet_lite ; the row's own is imagenet ." in top) == is_said


@pytest.mark.parametrize("is_synthetic", [False, True])
@pytest.mark.parametrize("reduced", [{}, {"distill.num_epochs": [20, 2]}])
def test_what_is_synthetic_or_reduced_never_stands_there_without_a_mark(tmp_path, is_synthetic, reduced):
    page = read_page(tmp_path, write_run(tmp_path, synthetic_data=is_synthetic, reduced=reduced))
    marks = [attributes for attributes in page.all("span") if attributes.get("class") == "mark"]
    groups = 2
    assert len(marks) == groups * (is_synthetic + bool(reduced) + (is_synthetic or bool(reduced)))
    assert ("Synthetic data." in page.text) == is_synthetic
    assert ("distill.num_epochs 20 2" in page.text) == bool(reduced)


@pytest.mark.parametrize(
    "word, row, is_smoke, names_command",
    [
        ("smoke", "xray_rotnet", True, True),
        ("smoke", "cifar10_random", True, False),
        ("cpu", "xray_rotnet", False, False),
    ],
)
def test_a_smoke_run_says_what_it_is_for_and_what_to_run_instead(tmp_path, word, row, is_smoke, names_command):
    page = read_page(tmp_path, write_run(tmp_path, ("soc",), word=word, row=row))
    assert ("Smoke run." in page.text) == is_smoke
    assert ("--config=configs/xray_rotnet.py:cpu" in page.text) == names_command


def test_networks_with_seeds_of_their_own_are_named(tmp_path):
    seeds = {"splits": 0, "teacher": 0, "student": 0}
    assert "Seed 0. Finished" in read_page(tmp_path, write_run(tmp_path, ("soc",), seeds=seeds)).text
    seeds |= {"teacher": 1, "student": 2}
    page = read_page(tmp_path, write_run(tmp_path, ("soc",), seeds=seeds))
    assert "Seed 0, of the teacher 1, of the student 2. Finished" in page.text


def test_the_probe_stands_beside_the_published_one(tmp_path):
    content = write_run(tmp_path, probe_accuracy=0.2345, probe_accuracy_sd=0.01)
    content["configurations"][0]["probe"] = {"accuracy": 0.25, "num_test_images": 96, "num_classes": 10}
    page = read_page(tmp_path, content)
    assert "Linear probe: 23.45%, standard deviation over configurations 1.00; published 21.59%." in page.text
    assert "Linear probe: 25.00% of 96 labelled test images right (10 classes)." in page.text


PROBE = {"accuracy": 0.895, "balanced_accuracy": 0.51, "auroc": 0.6123, "majority_accuracy": 0.89}
PROBE_SUMMARY = {f"probe_{name}": value for name, value in PROBE.items()}
PROBE_SUMMARY |= {"probe_accuracy_sd": 0.01, "probe_balanced_accuracy_sd": 0.02, "probe_auroc_sd": 0.03}


def test_the_accuracy_of_a_probe_never_stands_alone(tmp_path):
    content = write_run(tmp_path, **PROBE_SUMMARY)
    content["configurations"][0]["probe"] = {**PROBE, "num_test_images": 96, "num_classes": 2}
    page = read_page(tmp_path, content)
    assert (
        "Linear probe: 89.50%, standard deviation over configurations 1.00; published 21.59%. Always naming the most "
        "frequent class: 89.00%. Balanced accuracy 51.00% (standard deviation 2.00), AUROC 61.23 (standard deviation "
        "3.00)."
    ) in page.text
    assert (
        "Linear probe: 89.50% of 96 labelled test images right (2 classes). Always naming the most frequent class: "
        "89.00%. Balanced accuracy 51.00%; AUROC 61.23."
    ) in page.text
    assert "Balanced accuracy" in [term.text for term in page.find("dt")]


def test_parcels_are_probed_by_patch_and_by_parcel(tmp_path):
    content = write_run(tmp_path, ("soc",), **PROBE_SUMMARY | {"probe_auroc": None, "probe_auroc_sd": None})
    probe = {**PROBE, "auroc": None, "num_test_images": 96, "num_classes": 2}
    probe |= {"accuracy_by_sample": 0.4, "balanced_accuracy_by_sample": 0.3, "auroc_by_sample": 0.2}
    content["configurations"][0]["probe"] = probe | {"majority_accuracy_by_sample": 0.7}
    page = read_page(tmp_path, content)
    assert "Balanced accuracy 51.00%, AUROC -." in page.text
    assert (
        "Linear probe: 89.50% of 96 labelled test images right (2 classes), 40.00% of the samples. Always naming the "
        "most frequent class: 89.00%, 70.00% of the samples. Balanced accuracy 51.00%, by sample 30.00%; AUROC -, by "
        "sample 20.00."
    ) in page.text


def test_reconstructions_are_shown_where_there_are_some(tmp_path):
    content = write_run(tmp_path, names=("soc",))
    content["configurations"][0]["teacher"] = {"held_out_squared_error": 0.0123}
    assert not read_page(tmp_path, content).all("img")
    examples = json.loads((tmp_path / "examples" / "soc.json").read_text(encoding="utf-8"))
    files.write_json(tmp_path / "examples" / "soc.json", examples | {"reconstructions": "data:image/png;base64,AA=="})
    page = read_page(tmp_path, content)
    (picture,) = page.all("img")
    assert picture["src"] == "data:image/png;base64,AA==" and "autoencoder" in picture["alt"]
    assert "Held-out squared error 0.0123" in page.text


def test_without_anomalies_scores_are_shown_and_nothing_is_separated(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, names=("normal",), num_anomalous=0))
    assert "There are no anomalous test samples" in page.text
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    assert sum("histogram of the KD scores of 30 normal samples, median" in label for label in labels) == 1
    assert not any("ROC" in label or "AUROC" in label for label in labels)


def test_samples_that_are_left_out_or_trained_on_are_pointed_out(tmp_path):
    skipped = [[f"{EVIL}x.png", "empty file"]]
    page = read_page(tmp_path, write_run(tmp_path, skipped_inputs=skipped, num_identical_across_splits=3))
    assert "Without 1 sample that cannot be read" in page.text
    (line,) = [row for row in page.find("tr") if "empty file" in row.text]
    assert line.find("bdi")[0].attributes["title"] == f"{EVIL}x.png" and line.text.endswith("x.png empty file")
    assert "3 pictures are on two sides of the split" in page.text


def test_a_random_teacher_on_the_same_test_is_explained(tmp_path):
    content = write_run(tmp_path, names=("soc", "soc/random"))
    reference = content["configurations"].pop()
    content |= {"summary": results.summarise(content["configurations"]), "random_on_same_test": [reference]}
    page = read_page(tmp_path, content)
    assert f"A random teacher on the same test samples: KD {100 * reference['auroc']['kd']:.2f}, MSE" in page.text
    assert page.text.count("With a random teacher") == 1


def test_the_memory_of_a_device_is_shown_where_there_is_one(tmp_path, of_row):
    page = read_page(tmp_path, write_run(tmp_path, ("soc",), peak_device_memory_mib={"distill": 4321}))
    assert "2 min 05 s 512 MiB 4321 MiB" in page.text
    page = of_row.page
    assert "device memory" not in page.text


def test_printing_opens_what_is_closed(tmp_path):
    names = tuple(f"unimodal/{number}" for number in range(3))
    text = write_page(tmp_path, write_run(tmp_path, names=names)).read_text(encoding="utf-8")
    page = Page(text)
    configurations = page.find("details", class_="configuration")
    assert [("open" in each.attributes) for each in configurations] == [True, False, False]
    assert "beforeprint" in text and "prefers-color-scheme: dark" in text and "@media print" in text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    content = write_run(tmp_path, ("soc",))
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(UserError, match="the results are safe, but not their page: .*report.* cannot be written"):
        write_page(tmp_path, content)


def test_a_row_without_published_numbers_has_a_page(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, ("soc",), published=None))
    assert "ublished" not in page.text and "of the paper" not in page.text
    assert "How well anomalies are told apart" in page.text


def test_names_from_the_data_are_not_taken_for_markup(of_row):
    page = of_row.page
    assert {f"{EVIL}{index}" for index in range(50)} <= {name.text for name in page.find("bdi")}
    assert len(page.all("script")) == 1


def test_views_and_a_student_that_did_not_learn_are_shown(tmp_path):
    content = write_run(tmp_path, names=("soc",))
    (entry,) = content["configurations"]
    top, side = ({each: (start + n) / 100 for n, each in enumerate(DETECTORS)} for start in (60, 40))
    entry["auroc_by_view"] = {"top": top, "side": side}
    entry["distillation"]["mean_predictor_loss"] = 0.05
    page = read_page(tmp_path, content)
    both = {name: f"{100 * auroc:.2f}" for name, auroc in entry["auroc"].items()}
    assert f"both top side KD {both['kd']} 60.00 40.00 MSE {both['mse']} 61.00 41.00" in page.text
    assert "has not learned the teacher" in page.text


def test_a_page_says_whether_scores_come_from_the_anomalies(tmp_path):
    content = write_run(tmp_path, names=("unimodal/airplane",))
    assert "comes from the anomaly" not in read_page(tmp_path, content).text
    rates = dict(zip(DETECTORS, (0.5, 0.25, 1.0, 0.125), strict=True))
    content["configurations"][0]["localisation"] = {
        "num_samples": 12,
        "hit_rate": rates,
        "hit_rate_interval": dict.fromkeys(DETECTORS, [0.1, 0.9]),
        "random_hit_rate": 0.3,
        "num_masks": 7,
        "num_normal": 1,
        "pixel_auroc": rates,
    }
    page = read_page(tmp_path, content)
    patches, pixels = [
        rows_of(table) for table in page.find("table") if "anomaly, in" in table.text or "Pixel" in table.text
    ]
    assert patches[0] == ["KD", "50.00 [10.00, 90.00]"] and patches[-1] == ["a patch at random", "30.00"]
    assert pixels[-1] == ["Mahalanobis, full", "12.50"]
    assert "7 anomalous images with masks and 1 normal one" in " ".join(page.text.split())
    content["configurations"][0]["localisation"]["pixel_auroc"] = dict.fromkeys(DETECTORS)
    assert "anomalies of 7 masks are too small" in " ".join(read_page(tmp_path, content).text.split())


def test_how_far_the_student_moved_and_its_course_are_shown(tmp_path):
    content = write_run(tmp_path, names=("soc",))
    content["measurement"]["measure_samples"] = 512
    points = [
        {"update_steps": steps, "kd_auroc": 0.5 + steps / 100, "error_ratio": None, "brittleness": 0.01}
        for steps in (10, 20)
    ]
    content["configurations"][0]["distillation"] = {
        "update_steps": 1580,
        "learning_rate": 1e-5,
        "movement": 1.6522,
        "recipe_movement": 14.72,
        "loss": 0.1,
        "mean_predictor_loss": 0.2,
        "error_ratio": 0.5,
        "in_words": results.how_far_in_words(0.5),
        "course": points,
    }
    page = read_page(tmp_path, content)
    assert "1,580 updates at learning rate 1e-05. That can move a weight by 1.65 times the spread" in page.text
    assert "in the recipe, by 14.7 times." in page.text
    assert (
        "is 0.5 times that of always predicting the teacher's mean output: it has begun to learn the teacher."
        in page.text
    )
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert "KD AUROC, % of the student on the way: 60 after 10, 70 after 20." in labels
    assert not any(label.startswith("error ratio") for label in labels)


def test_scores_that_are_all_equal_have_a_page(tmp_path):
    content = write_run(tmp_path, names=("soc",))
    _, labels, scores = results.read_scores(tmp_path / "scores" / "soc.csv")
    equal = {name: np.ones_like(values) for name, values in scores.items()}
    results.write_scores(tmp_path / "scores" / "soc.csv", [str(index) for index in range(50)], labels, equal)
    read_page(tmp_path, content)


def test_the_same_run_gives_the_same_page(tmp_path):
    content = write_run(tmp_path, ("soc",))
    pages = [write_page(tmp_path, content).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_plots_touch_no_global_state_of_matplotlib(tmp_path):
    script = "import sys; from brittle_jax.report import figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
