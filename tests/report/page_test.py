"""The page, made from a folder as a run writes it; what is in it is read with a parser."""

import csv
import html.parser
import importlib.resources
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from brittle_jax import files, results
from brittle_jax.errors import UserError
from brittle_jax.evaluate.samples import separations, separations_by_kind
from brittle_jax.published import published_row
from brittle_jax.report.page import write_page
from brittle_jax.results import DETECTORS

_VOID = {"meta", "link", "br", "wbr", "img"}
_EVIL = '<script>alert("x")</script>'


class Element:
    """An element of a page and what is in it."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.children = tag, attributes, []

    def find(self, tag, **attributes):
        """Returns all elements inside of a tag, and of a class if one is named (`class_="ranking"`)."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and set(attributes.values()) <= set(child.attributes.get("class", "").split()):
                    found.append(child)
                found += child.find(tag, **attributes)
        return found

    @property
    def raw_text(self):
        """What stands there: elements stand apart but for names, and where these may be broken."""
        parts = []
        for child in self.children:
            if isinstance(child, str):
                parts.append(child)
            elif child.tag not in ("style", "script", "wbr"):
                parts.append(child.raw_text if child.tag == "bdi" else f" {child.raw_text} ")
        return "".join(parts)

    @property
    def text(self):
        return " ".join(self.raw_text.split())


class Page(html.parser.HTMLParser):
    """Reads a page, and makes sure that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.root = Element("", {})
        self.open, self.elements = [self.root], []
        self.feed(text)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag, attributes):
        element = self.handle_startendtag(tag, attributes)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        element = Element(tag, dict(attributes))
        self.elements.append((tag, element.attributes))
        self.open[-1].children.append(element)
        return element

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].children.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def find(self, tag, **attributes):
        return self.root.find(tag, **attributes)

    @property
    def text(self):
        return self.root.text


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
    assert sorted(file.name for file in (tmp_path / "report").iterdir()) == ["index.html", "manifest.json"]
    targets = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster")
    ]
    assert targets and all(target.startswith(("#", "data:")) for target in targets)
    css = (tmp_path / "report" / "index.html").read_text(encoding="utf-8").partition("</style>")[0]
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
        _, csv_labels, scores = results.read_scores(tmp_path / "scores" / f"{entry['name']}.csv")
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
    skipped = [[f"{_EVIL}x.png", "empty file"]]
    page = read_page(tmp_path, write_run(tmp_path, skipped_inputs=skipped, num_identical_across_splits=3))
    assert "Without 1 sample that cannot be read" in page.text
    (line,) = [row for row in page.find("tr") if "empty file" in row.text]
    assert line.find("bdi")[0].attributes["title"] == f"{_EVIL}x.png" and line.text.endswith("x.png empty file")
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
    text = write_page(tmp_path, write_run(tmp_path, names=names)).read_text(encoding="utf-8")
    page = Page(text)
    configurations = page.find("details", class_="configuration")
    assert [("open" in each.attributes) for each in configurations] == [True, False, False]
    assert "beforeprint" in text and "prefers-color-scheme: dark" in text and "@media print" in text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    content = write_run(tmp_path)
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(UserError, match="the results are safe, but not their page: .*report.* cannot be written"):
        write_page(tmp_path, content)


def test_a_row_without_published_numbers_has_a_page(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, published=None))
    assert "ublished" not in page.text and "of the paper" not in page.text
    assert "How well anomalies are told apart" in page.text


def test_names_from_the_data_are_not_taken_for_markup(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path))
    assert {f"{_EVIL}{index}" for index in range(50)} <= {name.text for name in page.find("bdi")}
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
    _, labels, scores = results.read_scores(tmp_path / "scores" / "soc.csv")
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


def write_own(folder, *, ids=None, kinds=("scab", "rust"), path="/data/orchards/apple leaves/", **changes):
    """Writes a run on pictures of one's own: 30 normal ones, then 10 of each kind, told apart less and less."""
    num_test = 30 + 10 * len(kinds)
    all_kinds = [*["normal"] * 30, *(kind for kind in kinds for _ in range(10))]
    content = write_run(folder, names=("normal",), num_anomalous=num_test - 30, published=None)
    content |= {"row": "image_folder", "dataset": "image_folder", "word": "smoke", "data_path": path}
    labels = np.repeat([0, 1], [30, num_test - 30])
    rng = np.random.default_rng(1)
    shift = np.array([4.0, 0.0, 2.0, 1.0, 3.0])
    scores = {
        name: rng.normal(size=num_test) + np.repeat([0, *shift[: len(kinds)]], [30, *[10] * len(kinds)])
        for name in DETECTORS
    }
    ids = ids or [f"{kind}/{index:04d}.png" for index, kind in enumerate(all_kinds)]
    results.write_scores(folder / "scores" / "normal.csv", ids, labels, scores)
    (entry,) = content["configurations"]
    entry |= separations(labels, scores, bootstrap_samples=20, seed=0)
    entry["by_kind"] = separations_by_kind(labels, all_kinds, scores, bootstrap_samples=200, seed=0)
    examples = json.loads((folder / "examples" / "normal.json").read_text(encoding="utf-8")) | {"kinds": all_kinds}
    files.write_json(folder / "examples" / "normal.json", examples)
    return content | {"summary": results.summarise([entry])} | changes


def rows_of(table):
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in table.find("tr")]


def test_a_page_of_ones_own_pictures_is_named_by_their_folder(tmp_path):
    page = read_page(tmp_path, write_own(tmp_path))
    assert page.find("title")[0].text == "apple leaves · brittle_jax"
    assert page.find("h1")[0].text == "apple leaves"
    assert page.find("p", class_="path")[0].text == "/data/orchards/apple leaves/"
    (summary,) = [heading.text for heading in page.find("h2") if "against" in heading.text]
    assert summary == "normal pictures against rust, scab"
    assert page.find("caption")[0].text == "normal pictures against rust, scab"
    assert "Recipe: image_folder (smoke)" in page.text and "rotnet on fashion_mnist" in page.text


@pytest.mark.parametrize(
    ("kinds", "heading"),
    [
        (("scab",), "normal pictures against scab"),
        (("anomalous",), "normal pictures against anomalous ones"),
        (("a", "b", "c", "d", "e"), "normal pictures against 5 kinds of anomaly"),
    ],
)
def test_the_heading_says_what_is_told_from_what(tmp_path, kinds, heading):
    page = read_page(tmp_path, write_own(tmp_path, kinds=kinds))
    assert heading in [each.text for each in page.find("h2")]


def test_the_heading_names_the_random_teacher_of_a_reference(tmp_path):
    content = write_run(tmp_path, names=("normal", "normal/random"), published=None, data_path="leaves")
    content |= {"row": "image_folder", "dataset": "image_folder"}
    reference = content["configurations"].pop()
    content |= {"summary": results.summarise(content["configurations"]), "random_on_same_test": [reference]}
    headings = [each.text for each in read_page(tmp_path, content).find("h2")]
    assert "normal pictures against anomalous ones, with a random teacher" in headings


def test_pictures_of_one_kind_alone_are_called_so(tmp_path):
    content = write_run(tmp_path, names=("normal",), num_anomalous=0, published=None)
    content |= {"row": "image_folder", "dataset": "image_folder", "data_path": "leaves"}
    assert "normal pictures alone" in [each.text for each in read_page(tmp_path, content).find("h2")]


@pytest.mark.parametrize(
    ("path", "title"),
    [("/", "/"), (".", "."), ("a/b/list.csv", "list.csv"), ("x/b\udcffd", "b\\udcffd"), (f"x/{_EVIL[8:16]}", "alert(")],
)
def test_any_path_has_a_title(tmp_path, path, title):
    page = read_page(tmp_path, write_own(tmp_path, path=path))
    assert page.find("h1")[0].text.startswith(title)
    assert page.find("title")[0].text.startswith(title)


def test_rows_of_the_paper_keep_their_names(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, data_path=None))
    assert page.find("h1")[0].text == "cifar10_fmnist_rotnet"
    leaves = {"row": "plant_pathology_random", "dataset": "plant_pathology", "data_path": "/data/plant"}
    page = read_page(tmp_path, write_run(tmp_path, **leaves))
    assert page.find("h1")[0].text == "plant_pathology_random" and not page.find("p", class_="path")


def test_scans_of_ones_own_are_not_held_against_the_papers(tmp_path):
    content = write_run(tmp_path, names=("soc",), row="xray_rotnet", dataset="xray", data_path="/data/airport")
    page = read_page(tmp_path, content | {"published": published_row("xray_rotnet")})
    assert page.find("h1")[0].text == "airport"
    assert "soc against anomalous ones" in [each.text for each in page.find("h2")]
    assert [mark.text for mark in page.find("span", class_="mark")] == ["not comparable"]


def test_ours_is_said_only_beside_published_numbers(tmp_path):
    page = read_page(tmp_path, write_own(tmp_path))
    assert rows_of(page.find("table")[0])[0] == ["", "value"]
    assert not re.search(r"\bours\b", page.text, re.IGNORECASE)
    page = read_page(tmp_path, write_run(tmp_path))
    assert rows_of(page.find("table")[0])[0] == ["", "ours", "published unimodal mean", "difference"]


def test_every_number_is_explained_in_a_sentence(tmp_path):
    page = read_page(tmp_path, write_own(tmp_path, probe_accuracy=0.5, probe_accuracy_sd=0.0))
    (terms,) = page.find("dl", class_="terms")
    explained = dict(zip(*([each.text for each in terms.find(tag)] for tag in ("dt", "dd")), strict=True))
    assert list(explained) == ["KD", "MSE", "Mahalanobis, diagonal", "Mahalanobis, full", "Linear probe", "Brittleness"]
    assert all(20 < len(sentence) < 120 for name, sentence in explained.items() if name != "Brittleness")
    # What a value can be compared with: the published ones, by how many outputs their networks have.
    said = explained["Brittleness"]
    assert "a higher one predicts the better teacher" in said and "the same network on the same images" in said
    low_128, high_128, low_2208, high_2208 = map(float, re.findall(r"0\.\d+", said))
    text = (importlib.resources.files("brittle_jax") / "published.csv").read_text(encoding="utf-8")
    published = {True: [], False: []}
    for line in csv.DictReader(text.splitlines()):
        published[line["dataset"] in ("plant_pathology", "xray")].append(float(line["brittleness"]))
    assert (min(published[False]), max(published[False])) == (low_128, high_128)
    assert (round(min(published[True]), 4), round(max(published[True]), 4)) == (low_2208, high_2208)


def test_the_probe_is_explained_only_where_there_is_one(tmp_path):
    page = read_page(tmp_path, write_own(tmp_path, probe_accuracy=None))
    assert "Linear probe" not in [term.text for term in page.find("dt")]


def test_what_few_need_is_folded(tmp_path):
    page = read_page(tmp_path, write_own(tmp_path, reduced={"distill.num_epochs": [20, 2]}))
    folded = [details for details in page.find("details") if "open" not in details.attributes]
    assert [details.find("summary")[0].text for details in folded] == [
        "All 50 test samples, ranked by KD score",
        "Where this run leaves the recipe (1)",
        "How the paper's open points are read",
        "Time and memory",
    ]
    assert "pixel scale [0, 1]" in folded[2].text and "2 min 05 s 512 MiB" in folded[3].text


def test_each_kind_of_anomaly_has_its_numbers_the_worst_first(tmp_path):
    content = write_own(tmp_path)
    page = read_page(tmp_path, content)
    (table,) = page.find("table", class_="kinds")
    by_kind = content["configurations"][0]["by_kind"]
    rows = table.find("tbody")[0].find("tr")
    for row, (kind, is_missed) in zip(rows, [("rust", True), ("scab", False)], strict=True):
        low, high = by_kind[kind]["auroc_interval"]["kd"]
        kd, *others = (f"{100 * by_kind[kind]['auroc'][detector]:.2f}" for detector in DETECTORS)
        note = ["may be missed"] if is_missed else []
        interval = f"[{100 * low:.2f}, {100 * high:.2f}]"
        assert row.text == " ".join([f"{kind} (10)", kd, interval, *note, *others])
        assert ("missed" in row.attributes.get("class", "")) == is_missed


def test_kinds_stand_with_each_configuration_where_only_a_mean_is_above(tmp_path):
    content = write_run(tmp_path, names=("unimodal/cat", "unimodal/dog"))
    for entry in content["configurations"]:
        labels, kinds = np.repeat([0, 1], [30, 20]), ["normal"] * 30 + ["a", "b"] * 10
        _, _, scores = results.read_scores(tmp_path / "scores" / f"{entry['name']}.csv")
        entry["by_kind"] = separations_by_kind(labels, kinds, scores, bootstrap_samples=20, seed=0)
    page = read_page(tmp_path, content)
    assert len(page.find("table", class_="kinds")) == 2
    assert all(len(each.find("table", class_="kinds")) == 1 for each in page.find("details", class_="configuration"))


def test_all_test_samples_are_ranked(tmp_path):
    page = read_page(tmp_path, write_own(tmp_path))
    ids, labels, scores = results.read_scores(tmp_path / "scores" / "normal.csv")
    (ranking,) = page.find("details", class_="ranking")
    rows = rows_of(ranking.find("tbody")[0])
    expected = [
        [str(rank), ids[each], ids[each].partition("/")[0], *(f"{scores[name][each]:#.4g}" for name in DETECTORS)]
        for rank, each in enumerate(np.argsort(-scores["kd"]), 1)
    ]
    assert rows == expected
    assert sum(row.attributes["class"] == "anomalous" for row in ranking.find("tbody")[0].find("tr")) == 20


def test_a_page_lists_at_most_two_thousand_samples(tmp_path):
    content = write_run(tmp_path, num_anomalous=2000)
    page = read_page(tmp_path, content)
    for name, ranking in zip(
        ("unimodal/airplane", "multimodal/cat"), page.find("details", class_="ranking"), strict=True
    ):
        assert len(ranking.find("tbody")[0].find("tr")) == 1000
        assert ranking.find("summary")[0].text == "The 1,000 test samples with the highest KD scores"
        assert ranking.find("p")[0].text == f"The other 1030 are in scores/{name}.csv ."


HOSTILE = f"scab/{_EVIL}-\u202egnp.exe_{'x' * 90}-'\"&amp;_0001.png"


def test_names_break_only_where_words_end_and_long_ones_are_cut_in_the_middle(tmp_path):
    ids = [f"normal/IMG_20210412_orchard-7_tree.3_{index:04d}_{'long' * 10}.jpeg" for index in range(49)] + [HOSTILE]
    page = read_page(tmp_path, write_own(tmp_path, ids=ids))
    names = page.find("bdi", class_="name")
    (ranking,) = page.find("details", class_="ranking")
    assert set(ids) <= {name.text for name in ranking.find("bdi")}  # whole, as files are looked for by them
    for name in names:
        pieces = "".join(piece if isinstance(piece, str) else "\0" for piece in name.children).split("\0")
        assert all(len(piece) <= 14 for piece in pieces) and len("".join(pieces)) <= 45  # with a mark for each cut
        assert all(piece[-1] in "/_-.…" or piece[-1].isspace() for piece in pieces[:-1])
        full = name.attributes["title"]
        assert "".join(pieces)[:4] == full[:4] and "".join(pieces)[-5:] == full[-5:]
    assert all(
        name.attributes["title"].rpartition("_")[0][-4:] in name.text for name in names if "orchard" in name.text
    )
    assert len(page.all("script")) == 1


def test_nothing_breaks_a_name_within_a_word(tmp_path):
    style = write_page(tmp_path, write_own(tmp_path)).read_text(encoding="utf-8").partition("</style>")[0]
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", style)
    breaking = [selector.strip() for selector, body in rules if re.search("overflow-wrap|word-break|hyphens", body)]
    assert breaking == [".path"]  # whole, however long


def test_one_of_something_is_not_several(tmp_path):
    intensity = {"bits": {"8": 120, "16": 1}, "lowest": 0, "highest": 4095, "range": [0, 4095]}
    skipped = [["x.png", "empty file"]]
    content = write_run(tmp_path, names=("soc",), num_anomalous=1, skipped_inputs=skipped, intensity=intensity)
    content["configurations"][0] |= {"num_train": 1, "probe": {"accuracy": 1.0, "num_test_images": 1, "num_classes": 2}}
    path = write_page(tmp_path, content)
    several = (
        r"(?<![.\d])1 (normal |anomalous |labelled |test )*(samples|pictures|images|updates|configurations|ones)\b"
    )
    assert not re.search(several, path.read_text(encoding="utf-8"))
    page = Page(path.read_text(encoding="utf-8"))
    assert "Trained on 1 normal sample; tested on 30 normal and 1 anomalous one." in page.text
    assert "Without 1 sample that cannot be read" in page.text
    assert "Bit depth: 8 bits (120 pictures), 16 bits (1 picture)." in page.text
    assert "Intensities: 0 to 4095; 0 is taken as black, 4095 as white." in page.text


def test_intensities_without_a_range_say_nothing_of_black_and_white(tmp_path):
    intensity = {"bits": {"8": 2, "16": 1}, "lowest": 3.0, "highest": 60000.0, "range": None}
    assert "Intensities: 3 to 60000." in read_page(tmp_path, write_run(tmp_path, intensity=intensity)).text
    for ordinary in (None, {"bits": {"8": 2}, "lowest": 3.0, "highest": 255.0, "range": None}):
        assert "Bit depth" not in read_page(tmp_path, write_run(tmp_path, intensity=ordinary)).text


@pytest.mark.parametrize("damage", ["missing", "cut off", "no records", "not text"])
def test_a_page_without_metrics_has_no_curves(tmp_path, damage):
    content = write_own(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.unlink()
    if damage != "missing":
        lines = {
            "cut off": b'{"stage": "a", "st',
            "no records": b'7\n[]\nnull\n"x"\n{}\n{"stage": "a", "step": 1}\n{"stage": "a", "step": "1", "loss": 1}\n'
            b'{"stage": ["a"], "step": 1, "loss": 1}\n{"stage": "a", "step": 1, "loss": NaN}\n',
            "not text": bytes(range(128, 256)),
        }
        path.write_bytes(lines[damage])
    page = read_page(tmp_path, content)
    assert not any("Training loss" in picture["aria-label"] for picture in page.all("svg"))
    assert page.find("h1")[0].text == "apple leaves"


@pytest.mark.parametrize(
    "content", [None, {}, [], {"groups": {"Most anomalous": ["x"]}, "samples": {}}, "elsewhere", "cut off"]
)
def test_without_its_examples_a_configuration_shows_the_rest(tmp_path, capsys, content):
    run = write_own(tmp_path)
    path = tmp_path / "examples" / "normal.json"
    text = path.read_text(encoding="utf-8")
    path.unlink()
    if content == "cut off":
        path.write_text(text[:-20], encoding="utf-8")
    elif content == "elsewhere":
        path.write_text(text.replace("data:image/png", "https://example.org/"), encoding="utf-8")
    elif content is not None:
        files.write_json(path, content)
    page = read_page(tmp_path, run)
    (banner,) = page.find("p", class_="banner")
    assert banner.text == "Missing or damaged, and so not shown: examples/normal.json ."
    assert not page.find("figure", class_="sample") and page.find("details", class_="ranking")
    assert f"warning: {path} is " in capsys.readouterr().err


@pytest.mark.parametrize("damage", [None, lambda text: text[: len(text) // 2].rpartition("\n")[0] + "\n"])
def test_without_its_scores_a_configuration_shows_the_rest(tmp_path, capsys, damage):
    run = write_own(tmp_path)
    path = tmp_path / "scores" / "normal.csv"
    text = path.read_text(encoding="utf-8")
    path.unlink()
    if damage:
        path.write_text(damage(text))
    page = read_page(tmp_path, run)
    (banner,) = page.find("p", class_="banner")
    assert banner.text == "Missing or damaged, and so not shown: scores/normal.csv ."
    assert page.find("figure", class_="sample") and not page.find("details", class_="ranking")
    assert str(path) in capsys.readouterr().err


def test_runs_of_earlier_versions_have_a_page(tmp_path):
    content = write_run(tmp_path, names=("normal",), published=None, row="image_folder", dataset="image_folder")
    page = read_page(tmp_path, content)
    assert page.find("h1")[0].text == "image_folder"
    assert "normal pictures against anomalous ones" in [each.text for each in page.find("h2")]
    assert not page.find("table", class_="kinds")
    kinds = {row.find("td", class_="kind")[0].text for row in page.find("details", class_="ranking")[0].find("tr")[2:]}
    assert kinds == {"normal", "anomalous"}
