"""README and docs/: links resolve, examples run, and the README stays short."""

import csv
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data.datasets.loading import load
from brittle_jax.published import DETECTORS
from brittle_jax.run import settings

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "configs" / "README.md",
        ROOT / "launch" / "README.md",
        ROOT / "benchmarks" / "NOTES.md",
    ]
)
MARK = "<!-- A test runs this block. -->\n"


def read(page):
    return page.read_text(encoding="utf-8")


def prose(text):
    """Returns a page without its code: neither blocks nor spans have links or headings."""
    text = re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`", lambda span: re.sub(r"[\[\]()#]", "", span[0]), text)


def anchors(page):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(read(page)), flags=re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = "".join(letter for letter in text if letter.isalnum() or letter in " -_").replace(" ", "-")
        repeats = sum(slug == known or re.fullmatch(rf"{re.escape(slug)}-\d+", known) is not None for known in found)
        found.add(f"{slug}-{repeats}" if repeats else slug)
    return found


def broken_links(page):
    """Returns the relative links of a page that lead to no file, or to no heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and (linked.suffix != ".md" or anchor not in anchors(linked))):
            broken.append(target)
    return broken


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_resolves(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# Other page\n\n## `results.json` and more\n", encoding="utf-8")
    page.write_text(
        "# Title (of it)\n\n[a](other.md) [b](other.md#resultsjson-and-more) [c](#title-of-it) [d](https://example.org)\n"
        "[e](missing.md) [f](other.md#more) [g](#title) `[h](code)`\n\n```\n[i](block)\n```\n",
        encoding="utf-8",
    )
    assert broken_links(page) == ["missing.md", "other.md#more", "#title"]


def test_the_pages_are_there_and_linked_from_the_readme():
    pages = {name_of(page) for page in PAGES if page.parent.name == "docs"}
    assert len(pages) >= 8
    assert pages <= {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", read(ROOT / "README.md"))}


def test_the_readme_is_short():
    before, heading, _ = read(ROOT / "README.md").partition("\n## Reference\n")
    assert heading
    assert len(before.split()) <= 900


def blocks_of(page):
    """Returns the marked blocks of Python on a page."""
    return re.findall(re.escape(MARK) + r"```python\n(.*?)```", read(ROOT / page), flags=re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/library.md", "docs/report.md"])
def test_the_scoring_example_runs(page, capsys):
    exec(blocks_of(page)[0], {})
    assert float(capsys.readouterr().out) > 0


def test_the_example_of_a_detector_gives_the_scores_of_the_run(small_run, small_config, tmp_path):
    names = {}
    exec(blocks_of("docs/library.md")[1], names)
    with open(small_run / "scores" / "unimodal" / "airplane.csv", newline="", encoding="utf-8") as file:
        line = list(csv.DictReader(file))[3]
    dataset = load("cifar10", settings.data_of(small_config, "cifar10"))
    picture = dataset.images.read(int(np.flatnonzero(dataset.samples.ids == line["id"])[0]))
    Image.fromarray(picture).save(tmp_path / "1.png")
    scores = names["scores_of"](small_run, "unimodal/airplane", tmp_path / "1.png")
    assert scores == {name: pytest.approx(float(line[name]), rel=1e-4) for name in DETECTORS}


def test_the_example_of_attacks_runs():
    names = {}
    exec(blocks_of("docs/library.md")[2], names)
    assert (names["attacked"].scores > names["score"](names["images"])).all()
    assert (names["slopes"] > 0).all()


def test_every_python_block_is_run():
    counts = {name_of(page): (read(page).count("```python"), read(page).count(MARK)) for page in PAGES}
    assert {page: count for page, count in counts.items() if any(count)} == {
        "README.md": (1, 1),
        "docs/library.md": (3, 3),
        "docs/report.md": (1, 1),
    }
