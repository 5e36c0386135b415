"""The page, made from a folder as a run writes it; what is in it is read with a parser."""

import html.parser
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from brittle_jax import files, results
from brittle_jax.errors import UserError
from brittle_jax.evaluate.samples import separations
from brittle_jax.published import published_row
from brittle_jax.report.page import write_page
from brittle_jax.results import DETECTORS

_VOID = {"meta", "link", "br", "wbr", "img"}
_EVIL = '<script>alert("x")</script>'


class Page(html.parser.HTMLParser):
    """Reads a page, and makes sure that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def sample(label, class_name, kd, size):
    views = [
        {"name": "top", "picture": "data:image/png;base64,AA==", "size": size, "deciding_box": [2, 3, 20, 22]},
        {"name": "side", "picture": "data:image/png;base64,AB==", "size": size, "deciding_box": None},
    ]
    scores = {name: kd + 10 * number for number, name in enumerate(DETECTORS)}
    return {"label": label, "class": class_name, "scores": scores, "views": views}


def write_run(folder, names=("unimodal/airplane", "multimodal/cat"), num_anomalous=20, **changes):
    """Writes the files of a run with made-up scores, and returns its results."""
    rng = np.random.default_rng(0)
    entries, lines = [], [{"stage": "pretrain", "step": 1, "loss": 2.0}, {"stage": "pretrain", "step": 2, "loss": 1.0}]
    for name in names:
        labels = np.repeat([0, 1], [30, num_anomalous])
        scores = {detector: rng.normal(size=len(labels)) + number * labels for number, detector in enumerate(DETECTORS)}
        ids = [f"{_EVIL}{index}" for index in range(len(labels))]
        results.write_scores(folder / "scores" / f"{name}.csv", ids, labels, scores)
        entry = {"name": name, "group": name.partition("/")[0] if "/" in name else "all", "num_train": 40}
        entry |= {"num_test_normal": 30, "num_test_anomalous": num_anomalous}
        entry |= {"teacher": {"held_out_accuracy": 0.876543}}
        entry |= {"brittleness": 0.025, "gradient_norm": 0.1, "error_trace": 4.0}
        entry |= {"distillation": {"loss": 0.1, "mean_predictor_loss": 0.2}}
        entry |= separations(labels, scores, bootstrap_samples=20, seed=0)
        entries.append(entry)
        samples = {ids[0]: sample(1, "cat", 1.5, (40, 60)), ids[1]: sample(0, "dog", 0.25, (400, 600))}
        groups = {"Most anomalous": ids[:2], "Normal with the highest scores": ids[1:2]}
        files.write_json(folder / "examples" / f"{name}.json", {"groups": groups, "samples": samples})
        lines += [{"stage": f"distill {name}", "step": step, "loss": 1 / step} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = {
        "row": "cifar10_fmnist_rotnet",
        "dataset": "cifar10",
        "teacher": {"task": "rotnet", "dataset": "fashion_mnist"},
        "synthetic_data": False,
        "seed": 0,
        "reduced": {},
        "configurations": entries,
        "summary": results.summarise(entries),
        "random_on_same_test": [],
        "published": published_row("cifar10_fmnist_rotnet"),
        "skipped_inputs": [],
        "num_identical_across_splits": 0,
        "measurement": {"pixel_scale": "[0, 1]", "ridge": None},
        "environment": {"python": "3.11", "devices": ["cpu"]},
        "seconds": {"distill": 125.0},
        "peak_memory_mib": {"distill": 512},
        "peak_device_memory_mib": {"distill": None},
        "finished_at": "2021-04-21T00:00:00+00:00",
    }
    return content | changes


def read_page(folder, content):
    return Page(write_page(folder, content).read_text(encoding="utf-8"))


def test_the_page_needs_nothing_beside_it_and_asks_no_network(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path))
    assert sorted(file.name for file in (tmp_path / "report").iterdir()) == ["index.html"]
    targets = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster")
    ]
    assert targets and all(target.startswith(("#", "data:")) for target in targets)
    css = (tmp_path / "report" / "index.html").read_text().partition("</style>")[0]
    assert "@import" not in css and "url(" not in css and "http" not in css


def test_inner_links_and_ids_fit(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, reduced={"distill.num_epochs": [20, 2]}))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    wanted = {
        value[1:] for _, attributes in page.elements for value in attributes.values() if value and value[0] == "#"
    }
    text = (tmp_path / "report" / "index.html").read_text()
    wanted |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert wanted <= set(ids)
    assert "reduced" in wanted
    referred = [each for each in ids if each in wanted]
    assert len(referred) == len(set(referred))


def test_every_picture_says_what_it_shows(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path))
    pictures = page.all("svg")
    # Overview; views of three sample cards, plots, student; shared teacher.
    assert len(pictures) == 1 + 2 * (2 * 3 + 2 * len(DETECTORS) + 1) + 1
    assert all(picture["role"] == "img" and len(picture["aria-label"]) > 10 for picture in pictures)
    (frame, *_) = [rect for rect in page.all("rect") if rect.get("class") == "frame"]
    assert (frame["x"], frame["y"], frame["width"], frame["height"]) == ("3", "2", "19", "18")
    assert any("pixels 3 to 22 across and 2 to 20 down" in picture["aria-label"] for picture in pictures)
    plots = [picture["aria-label"] for picture in pictures if " view" not in picture["aria-label"]]
    assert len(plots) == len(set(plots))


def test_cards_say_what_a_sample_is_and_show_it_in_its_shape(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path))
    assert "Most anomalous top, decided side anomalous (cat) KD score 1.5" in page.text
    assert "Normal with the highest scores top, decided side normal (dog) KD score 0.25" in page.text
    views = [picture for picture in page.all("svg") if "view" in picture["aria-label"]]
    assert [view["viewbox"] for view in views[:4]] == 2 * ["0 0 60 40"] + 2 * ["0 0 600 400"]
    assert [view["class"] for view in views[:4]] == 2 * ["small"] + 2 * [""]
    assert page.all("figure")[0]["class"] == "sample anomalous" and page.all("figure")[1]["class"] == "sample normal"


def test_each_detector_has_its_own_plots(tmp_path):
    content = write_run(tmp_path)
    page = read_page(tmp_path, content)
    labels = " ".join(picture["aria-label"] for picture in page.all("svg"))
    for entry in content["configurations"]:
        csv_labels, scores = results.read_scores(tmp_path / "scores" / f"{entry['name']}.csv")
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


def test_the_numbers_stand_beside_the_published_ones(tmp_path):
    content = write_run(tmp_path)
    page = read_page(tmp_path, content)
    theirs = content["published"]["groups"]["unimodal"]["auroc"]["kd"]
    ours = content["summary"]["unimodal"]["auroc"]["kd"]
    assert f"KD {100 * ours:.2f} {100 * theirs:.2f} {100 * (ours - theirs):+.2f}" in page.text
    assert "brittleness 0.02500 " in page.text
    low, high = content["configurations"][0]["auroc_interval"]["mse"]
    assert f"[{100 * low:.2f}, {100 * high:.2f}]" in page.text
    assert "held-out accuracy at its own task: 87.65%" in page.text
    assert "2 min 05 s 512 MiB" in page.text
    assert "pixel scale [0, 1]" in page.text and "ridge" not in page.text


@pytest.mark.parametrize("is_synthetic", [False, True])
@pytest.mark.parametrize("reduced", [{}, {"distill.num_epochs": [20, 2]}])
def test_what_is_synthetic_or_reduced_never_stands_there_without_a_mark(tmp_path, is_synthetic, reduced):
    page = read_page(tmp_path, write_run(tmp_path, synthetic_data=is_synthetic, reduced=reduced))
    marks = [attributes for attributes in page.all("span") if attributes.get("class") == "mark"]
    groups = 2
    assert len(marks) == groups * (is_synthetic + bool(reduced) + (is_synthetic or bool(reduced)))
    assert ("Synthetic data." in page.text) == is_synthetic
    assert ("distill.num_epochs 20 2" in page.text) == bool(reduced)


def test_the_probe_stands_beside_the_published_one(tmp_path):
    content = write_run(tmp_path, probe_accuracy=0.2345, probe_accuracy_sd=0.01)
    content["configurations"][0]["probe"] = {"accuracy": 0.25, "num_test_images": 96, "num_classes": 10}
    page = read_page(tmp_path, content)
    assert "Linear probe: 23.45%, standard deviation over configurations 1.00; published 21.59%." in page.text
    assert "Linear probe: 25.00% of 96 labelled test images right (10 classes)." in page.text


def test_reconstructions_are_shown_where_there_are_some(tmp_path):
    content = write_run(tmp_path, names=("soc",))
    content["configurations"][0]["teacher"] = {"held_out_squared_error": 0.0123}
    assert not read_page(tmp_path, content).all("img")
    examples = json.loads((tmp_path / "examples" / "soc.json").read_text())
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
    skipped = [[f"{_EVIL}x.png", "empty file"]]
    page = read_page(tmp_path, write_run(tmp_path, skipped_inputs=skipped, num_identical_across_splits=3))
    assert "Without 1 sample that cannot be read" in page.text
    assert f"{_EVIL}x.png empty file" in page.text
    assert "3 pictures are on two sides of the split" in page.text


def test_a_random_teacher_on_the_same_test_is_explained(tmp_path):
    content = write_run(tmp_path, names=("soc", "soc/random"))
    reference = content["configurations"].pop()
    content |= {"summary": results.summarise(content["configurations"]), "random_on_same_test": [reference]}
    page = read_page(tmp_path, content)
    assert f"A random teacher on the same test samples: KD {100 * reference['auroc']['kd']:.2f}, MSE" in page.text
    assert page.text.count("With a random teacher") == 1


def test_the_memory_of_a_device_is_shown_where_there_is_one(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, peak_device_memory_mib={"distill": 4321}))
    assert "2 min 05 s 512 MiB 4321 MiB" in page.text
    page = read_page(tmp_path, write_run(tmp_path))
    assert "device memory" not in page.text


def test_printing_opens_what_is_closed(tmp_path):
    names = tuple(f"unimodal/{number}" for number in range(3))
    text = write_page(tmp_path, write_run(tmp_path, names=names)).read_text()
    page = Page(text)
    assert [("open" in each) for each in page.all("details")] == [True, False, False]
    assert "beforeprint" in text and "prefers-color-scheme: dark" in text and "@media print" in text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    content = write_run(tmp_path)
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(UserError, match="report.* cannot be written .*the results are safe"):
        write_page(tmp_path, content)


def test_a_row_without_published_numbers_has_a_page(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, published=None))
    assert "ublished" not in page.text and "of the paper" not in page.text
    assert "How well anomalies are told apart" in page.text


def test_names_from_the_data_are_not_taken_for_markup(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path))
    assert f"{_EVIL}0" in page.text
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


def test_scores_that_are_all_equal_have_a_page(tmp_path):
    content = write_run(tmp_path, names=("soc",))
    labels, scores = results.read_scores(tmp_path / "scores" / "soc.csv")
    equal = {name: np.ones_like(values) for name, values in scores.items()}
    results.write_scores(tmp_path / "scores" / "soc.csv", [str(index) for index in range(50)], labels, equal)
    read_page(tmp_path, content)


def test_the_same_run_gives_the_same_page(tmp_path):
    content = write_run(tmp_path)
    pages = [write_page(tmp_path, content).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_plots_touch_no_global_state_of_matplotlib(tmp_path):
    script = "import sys; from brittle_jax.report import figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
