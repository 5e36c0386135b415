"""Folders as runs write them, with made-up scores, for tests of the page."""

import json

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.text import Text

from brittle_jax import files, results
from brittle_jax.evaluate.samples import separations, separations_by_kind
from brittle_jax.published import published_row
from brittle_jax.report import page
from brittle_jax.results import DETECTORS
from tests.report.parsed_page import Page

EVIL = '<script>alert("x")</script>'


def sample_of(label, class_name, kd, size):
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
        ids = [f"{EVIL}{index}" for index in range(len(labels))]
        results.write_scores(folder / "scores" / f"{name}.csv", ids, labels, scores)
        entry = {"name": name, "group": name.partition("/")[0] if "/" in name else "all", "num_train": 40}
        entry |= {"num_test_normal": 30, "num_test_anomalous": num_anomalous}
        entry |= {"teacher": {"held_out_accuracy": 0.876543}}
        entry |= {"brittleness": 0.025, "gradient_norm": 0.1, "error_trace": 4.0}
        entry |= {"distillation": {"loss": 0.1, "mean_predictor_loss": 0.2}}
        entry |= separations(labels, scores, bootstrap_samples=20, seed=0)
        entries.append(entry)
        samples = {ids[0]: sample_of(1, "cat", 1.5, (40, 60)), ids[1]: sample_of(0, "dog", 0.25, (400, 600))}
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


def write_own(folder, *, ids=None, kinds=("scab", "rust"), path="/data/orchards/apple leaves/", **changes):
    """Writes a run on pictures of one's own: 30 normal ones, then 10 of each kind, told apart less and less."""
    num_test = 30 + 10 * len(kinds)
    all_kinds = [*["normal"] * 30, *(kind for kind in kinds for _ in range(10))]
    content = write_run(folder, names=("normal",), num_anomalous=num_test - 30, published=None)
    content |= {"row": "image_folder", "dataset": "image_folder", "word": "64-rotnet", "data_path": path}
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


def undrawn(plot):
    """Returns a plot as an SVG element of its words alone."""
    words = [text.get_text() for text in plot.figure.findobj(Text)]
    texts = Markup("").join(Markup("<text>{}</text>").format(each) for each in words if each)
    return Markup('<svg role="img" aria-label="{}">{}</svg>').format(plot.description, texts)


def read_page(folder, content):
    """Writes the page of a run and reads it; its plots, which take longer than all else to draw, are words alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "to_svg", undrawn)
        return Page(page.write_page(folder, content).read_text(encoding="utf-8"))
