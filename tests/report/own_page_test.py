"""The page of your own pictures, and of folders that are damaged or of earlier versions."""

import csv
import importlib.resources
import json
import re

import numpy as np
import pytest

from brittle_jax import files, results
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate import conformal
from brittle_jax.evaluate.calibration import Calibration
from brittle_jax.evaluate.samples import separations_by_kind
from brittle_jax.published import published_row
from brittle_jax.report.page import write_page
from brittle_jax.results import DETECTORS
from tests.report.made_up_runs import EVIL, read_page, write_own, write_run
from tests.report.parsed_page import Page, rows_of


def test_a_page_of_ones_own_pictures_is_named_by_their_folder(of_own):
    page = of_own.page
    assert page.find("title")[0].text == "apple leaves · brittle_jax"
    assert page.find("h1")[0].text == "apple leaves"
    assert page.find("p", class_="path")[0].text == "/data/orchards/apple leaves/"
    (summary,) = [heading.text for heading in page.find("h2") if "against" in heading.text]
    assert summary == "normal pictures against rust, scab"
    assert page.find("caption")[0].text == "normal pictures against rust, scab"
    assert "Recipe: image_folder (64-rotnet)" in page.text and "rotnet on fashion_mnist" in page.text


def test_the_recommended_detector_is_said_with_the_reason(tmp_path):
    content = write_own(tmp_path)
    assert "Recommended detector" not in read_page(tmp_path, content).text  # in a run of an earlier version
    content["configurations"][0]["recommended"] = {"detector": "mahalanobis_full", "why": "It has no student."}
    text = " ".join(read_page(tmp_path, content).text.split())
    assert (
        "Recommended detector: Mahalanobis, full . It has no student. No anomaly among these images decided it." in text
    )


def test_the_other_teacher_is_said_beside_the_one_that_was_taken(tmp_path):
    content = write_own(tmp_path, other_teacher="For another teacher, ask.")
    assert "For another teacher, ask." in " ".join(read_page(tmp_path, content).text.split())


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
    [("/", "/"), (".", "."), ("a/b/list.csv", "list.csv"), ("x/b\udcffd", "b\\udcffd"), (f"x/{EVIL[8:16]}", "alert(")],
)
def test_any_path_has_a_title(tmp_path, path, title):
    page = read_page(tmp_path, write_own(tmp_path, path=path))
    assert page.find("h1")[0].text.startswith(title)
    assert page.find("title")[0].text.startswith(title)


def test_rows_of_the_paper_keep_their_names(tmp_path):
    page = read_page(tmp_path, write_run(tmp_path, ("soc",), data_path=None))
    assert page.find("h1")[0].text == "cifar10_fmnist_rotnet"
    leaves = {"row": "plant_pathology_random", "dataset": "plant_pathology", "data_path": "/data/plant"}
    page = read_page(tmp_path, write_run(tmp_path, ("healthy",), **leaves))
    assert page.find("h1")[0].text == "plant_pathology_random" and not page.find("p", class_="path")


def test_scans_of_ones_own_are_not_held_against_the_papers(tmp_path):
    content = write_run(tmp_path, names=("soc",), row="xray_rotnet", dataset="xray", data_path="/data/airport")
    page = read_page(tmp_path, content | {"published": published_row("xray_rotnet")})
    assert page.find("h1")[0].text == "airport"
    assert "soc against anomalous ones" in [each.text for each in page.find("h2")]
    assert [mark.text for mark in page.find("span", class_="mark")] == ["not comparable"]


def test_ours_is_said_only_beside_published_numbers(of_row, of_own):
    page = of_own.page
    assert rows_of(page.find("table")[0])[0] == ["", "value"]
    assert not re.search(r"\bours\b", page.text, re.IGNORECASE)
    assert rows_of(of_row.page.find("table")[0])[0] == ["", "ours", "published unimodal mean", "difference"]


def test_every_number_is_explained_in_a_sentence(of_own):
    (terms,) = of_own.page.find("dl", class_="terms")
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
        "Settings that differ from the recipe (1)",
        "How this run does what the paper leaves open",
        "Time and memory",
    ]
    assert "pixel scale [0, 1]" in folded[2].text and "2 min 05 s 512 MiB" in folded[3].text


def test_each_kind_of_anomaly_has_its_numbers_the_worst_first(of_own):
    content, page = of_own.content, of_own.page
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


def test_all_test_samples_are_ranked(of_own):
    page = of_own.page
    ids, labels, scores = results.read_scores(of_own.folder / "scores" / "normal.csv")
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


HOSTILE = f"scab/{EVIL}-\u202egnp.exe_{'x' * 90}-'\"&amp;_0001.png"


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
    assert "Intensities: 3 to 60000." in read_page(tmp_path, write_run(tmp_path, ("soc",), intensity=intensity)).text
    for ordinary in (None, {"bits": {"8": 2}, "lowest": 3.0, "highest": 255.0, "range": None}):
        assert "Bit depth" not in read_page(tmp_path, write_run(tmp_path, ("soc",), intensity=ordinary)).text


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


def calibrated(folder, num_samples=30, **changes):
    """Returns the results of a run with calibration samples, whose scores are 0, 1, 2, ..."""
    content = write_own(folder)
    scores = {name: np.arange(num_samples, dtype=float) for name in DETECTORS}
    ids = [f"normal/{number}.png" for number in range(num_samples)]
    calibration_lib.write(folder / "calibration", "normal", Calibration(ids, scores, np.array(ids)))
    numbers = {"num_samples": num_samples, "num_groups": num_samples, "false_alarm_rate": 0.05, "num_needed": 19}
    numbers |= {"bound": 0.1253, "thresholds": dict.fromkeys(DETECTORS, 28.5) | {"mse": 7.25}}
    numbers |= {
        f"flagged_{kind}": dict.fromkeys(DETECTORS, share) for kind, share in (("normal", 0.1), ("anomalous", 0.75))
    }
    content["configurations"][0]["calibration"] = numbers | changes
    return content


def test_a_page_gives_the_threshold_and_what_it_would_have_flagged(tmp_path):
    content = calibrated(tmp_path)
    text = " ".join(read_page(tmp_path, content).text.split())
    assert "KD scores above 28.50 are flagged as anomalous. This threshold comes from 30 calibration samples" in text
    assert "flags at most 5% of normal images" in text and "with 95% confidence not above 12.53%" in text
    assert "Here it flags 10.00% of the normal test samples and 75.00% of the anomalous ones" in text
    content["configurations"][0]["recommended"] = {"detector": "mse", "why": "So it is."}
    assert "MSE scores above 7.250 are flagged" in " ".join(read_page(tmp_path, content).text.split())


def test_a_page_says_if_there_are_too_few_calibration_samples(tmp_path):
    few = {"bound": None, "thresholds": dict.fromkeys(DETECTORS)}
    text = " ".join(read_page(tmp_path, calibrated(tmp_path, 14, **few)).text.split())
    assert "flags 5% of normal images takes 19 calibration samples" in text and "this run has 14." in text
    assert "--recalibrate=DIR" in text and "Here it flags" not in text


def test_the_ranked_list_has_p_values_lowest_first(tmp_path):
    page = read_page(tmp_path, calibrated(tmp_path))
    (ranking,) = page.find("details", class_="ranking")
    rows = rows_of(ranking.find("table")[0])
    column = rows[0].index("p-value")
    found = [float(row[column]) for row in rows[2:]]
    scores = np.sort(results.read_scores(tmp_path / "scores" / "normal.csv").scores["kd"])[::-1]
    expected = conformal.p_values(np.arange(30.0), scores)
    assert found == sorted(found) == [round(each, 4) for each in expected]
    assert "p-value" in [term.text for term in page.find("dt")]


def test_damaged_calibration_scores_are_told_and_the_page_goes_on(tmp_path, capsys):
    content = calibrated(tmp_path)
    (tmp_path / "calibration" / "normal.csv").unlink()
    page = read_page(tmp_path, content)
    assert "calibration/normal.csv" in page.find("p", class_="banner")[-1].text
    assert "p-value" not in rows_of(page.find("details", class_="ranking")[0].find("table")[0])[0]
    assert "is missing" in capsys.readouterr().err


def test_a_page_of_own_pictures_has_the_command_that_scores_new_ones(tmp_path, of_own, of_row):
    (command,) = [code.text for code in of_own.page.find("code") if "brittle_jax.score" in code.text]
    assert command == f"python -m brittle_jax.score --run={of_own.folder} --images=DIR --out=scores.csv"
    assert (
        "--recalibrate=DIR" in of_own.page.text
        and "--recalibrate=DIR" not in read_page(tmp_path, calibrated(tmp_path)).text
    )
    assert "brittle_jax.score" not in of_row.page.text
    spaced = tmp_path / "my run"
    assert f"--run='{spaced}'" not in read_page(spaced, write_own(spaced)).text  # the whole word is quoted
    assert f"'--run={spaced}' --images=DIR" in read_page(spaced, write_own(spaced)).text


def test_cards_and_list_follow_the_detector_that_chose_them(tmp_path):
    content = write_own(tmp_path)
    examples = json.loads((tmp_path / "examples" / "normal.json").read_text(encoding="utf-8")) | {"detector": "mse"}
    files.write_json(tmp_path / "examples" / "normal.json", examples)
    page = read_page(tmp_path, content)
    assert "Test samples, by MSE score" in [heading.text for heading in page.find("h3")]
    assert all(score.text.startswith("MSE score") for score in page.find("span", class_="score"))
    (ranking,) = page.find("details", class_="ranking")
    assert ranking.find("summary")[0].text == "All 50 test samples, ranked by MSE score"
    samples = results.read_scores(tmp_path / "scores" / "normal.csv")
    names = [row.find("th")[0].text for row in ranking.find("tbody")[0].find("tr")]
    assert names == [samples.ids[each] for each in np.argsort(samples.scores["mse"], kind="stable")[::-1]]
