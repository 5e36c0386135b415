"""The whole report: its command, its files, and its page."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from brittle_jax import files
from brittle_jax.report.paper import report
from brittle_jax.report.paper.collection import Collection
from tests.report.paper.made_up import UNIMODAL, content_of, entry_of, write_files, write_run
from tests.report.parsed_page import Page, rows_of

EVIL = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def of_paper():
    """The report of the published numbers alone."""
    return report.make([], has_runs=False)


@pytest.fixture(scope="module")
def page_of_paper(of_paper, tmp_path_factory):
    """Its page."""
    path = report.write_page(of_paper, Collection([], {}), tmp_path_factory.mktemp("published"), has_runs=False)
    return Page(path.read_text(encoding="utf-8"))


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "brittle_jax.report", *arguments], capture_output=True, text=True, encoding="utf-8"
    )


class Reported(NamedTuple):
    """A report of the command: the folders of runs and of the report, its page, and how the command ended."""

    runs: pathlib.Path
    out: pathlib.Path
    page: Page
    result: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def of_runs(tmp_path_factory):
    """Of four runs, one of no row of the paper, and two that are left out."""
    folder = tmp_path_factory.mktemp("runs")
    for number, row in enumerate(("cifar10_baseline", "cifar10_random", "cifar10_cifar_rotnet")):
        entries = [entry_of(name, 0.6 + number / 10, 0.1 * number + 0.1) for name in UNIMODAL]
        write_run(folder / row, row, entries, **({"synthetic_data": True} if number == 2 else {}))
        for entry in entries[: 0 if number == 2 else None]:
            write_files(folder / row, entry)
    files.write_text(folder / "cifar10_random" / "report" / "index.html", "its page")
    (folder / "cifar10_baseline" / "scores" / "unimodal" / "cat.csv").unlink()
    own = [entry_of("normal", 0.6, 0.1)]
    write_run(folder / "a b<i>'&" / "run", "image_folder", own, dataset="image_folder", data_path=EVIL)
    files.write_json(folder / "new" / "results.json", content_of("cifar10_random", []) | {"format_version": EVIL})
    files.write_json(folder / "stopped" / "config.json", {"row": "x", "data.name": "cifar10"})
    out = tmp_path_factory.mktemp("out")
    result = command(f"--runs={folder}", f"--out={out}")
    return Reported(folder, out, Page((out / "index.html").read_text(encoding="utf-8")), result)


def test_tables_and_figures_are_files_too(of_runs):
    assert {path.name for path in (of_runs.out / "tables").iterdir()} == {
        f"table-{number}.{ending}" for number in range(2, 12) for ending in ("csv", "md", "tex")
    }
    for number in range(3, 7):
        assert (of_runs.out / "figures" / f"figure-{number}.png").read_bytes().startswith(b"\x89PNG")
        svg = (of_runs.out / "figures" / f"figure-{number}.svg").read_text(encoding="utf-8")
        assert "<svg" in svg and "Baseline" in svg
    assert (of_runs.out / "figures" / "choice.svg").is_file()


def test_the_page_of_the_published_numbers_has_all_tables_and_no_runs(page_of_paper):
    ids = [attributes["id"] for _, attributes in page_of_paper.elements if "id" in attributes]
    assert [name for name in ids if name.startswith("table-")] == [f"table-{number}" for number in range(2, 12)]
    text = page_of_paper.text
    assert "No run of ours" in text and "Pearson 0.985" in text and "Pearson 0.953" in text
    assert len(page_of_paper.find("table", class_="sortable")[0].find("tr")) == 14
    assert "not run" not in " ".join(cell.text for cell in page_of_paper.find("td"))


def test_links_lead_somewhere_and_nothing_is_loaded(of_runs, page_of_paper):
    for page in (of_runs.page, page_of_paper):
        ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
        for address in [attributes["href"] for attributes in page.all("a")]:
            if address.startswith("#"):
                assert address[1:] in ids
            else:
                assert (of_runs.out / address).is_file()
        assert [attributes["href"] for attributes in page.all("link")] == ["data:,"]
        assert not page.all("img") and not any("src" in attributes for _, attributes in page.elements)
    text = (of_runs.out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)|https?:(?!//www\.w3\.org)", text)


def test_every_figure_says_what_it_shows(of_runs):
    labels = [attributes["aria-label"] for attributes in of_runs.page.all("svg")]
    assert len(labels) >= 20 and all(labels)
    assert "Figure 4. CIFAR-10 unimodal, ours: Mahalanobis (full) AUROC, % against KD AUROC, %" in " ".join(labels)


def test_ours_stand_above_the_published_numbers(of_runs):
    page = of_runs.page
    (table,) = [each for each in page.find("section") if each.attributes.get("id") == "table-8"]
    lines = {line[0]: line for line in rows_of(table)}
    assert lines["Random"][1].split() == ["70.00", "60.09", "(+9.91)"] and lines["Random"][6] == "A"
    assert lines["CIFAR RotNet synthetic"][1].split() == ["80.00", "85.35"]
    assert lines["STL AE not run"][1:3] == ["62.85", "61.16"]
    assert "Some lines are synthetic" in table.text


def test_runs_have_sections_that_link_to_their_own_pages(of_runs):
    out, page = of_runs.out, of_runs.page
    (section,) = [each for each in page.find("section") if each.attributes.get("id") == "row-cifar10_random"]
    (link,) = section.find("a")
    assert (out / link.attributes["href"]).resolve().read_text(encoding="utf-8") == "its page"
    assert "unimodal/airplane 70.00 69.00" in section.text
    assert not [each for each in page.find("section") if each.attributes.get("id") == "row-cifar10_stl_rotnet"]
    assert "STL RotNet ( cifar10_stl_rotnet )" in page.text and "configs/ROW.py" in page.text
    assert "Runs of no row of the paper" in page.text


def test_what_was_left_out_is_named_and_names_are_text(of_runs):
    out, page = of_runs.out, of_runs.page
    assert "3 left out" in page.text and "unfinished" in page.text
    assert EVIL not in (out / "index.html").read_text(encoding="utf-8") and "a b<i>'&" in page.text


def test_versions_are_told(of_runs):
    page = of_runs.page
    assert "CIFAR-10: A" in page.text and "as far as in the row's recipe" in page.text


def test_numbers_are_there_for_other_programs(of_paper):
    content = json.loads(files.to_json(report.as_json(of_paper, Collection([], {}))))
    assert content["tables"]["8"][0]["kd"]["published"] == pytest.approx(95.44)
    assert len(content["figures"]["6"]) == 16 and set(content["sections"]) >= {"choice", "variance", "readings"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--published"], "error: --out is missing: name a folder for the report, such as --out=report"),
        (["--out=x"], "error: give either --runs=DIR, a folder of finished runs, or --published"),
        (["--out=x", "--published", "--runs=y"], "error: give either --runs=DIR"),
        (["--out=x", "--runs=/no/such"], "error: --runs=/no/such: no such folder"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = command(*arguments)
    assert result.returncode == 2 and result.stderr.startswith(message) and result.stderr.count("\n") == 1


def test_nothing_finished_is_a_mistake_that_names_what_is_there(tmp_path):
    files.write_json(tmp_path / "a" / "config.json", {"row": "x", "data.name": "cifar10"})
    result = command(f"--runs={tmp_path}", f"--out={tmp_path}/out")
    assert result.returncode == 2 and not (tmp_path / "out").exists()
    assert result.stderr == f"error: --runs={tmp_path}: no finished run below it; left out: a (unfinished)\n"


def test_the_page_of_a_run_is_not_overwritten(tmp_path):
    write_run(tmp_path / "run", "cifar10_random", [entry_of("unimodal/cat", 0.6, 0.05)])
    files.write_text(tmp_path / "run" / "report" / "index.html", "its page")
    result = command(f"--runs={tmp_path}", f"--out={tmp_path}/run/report")
    assert result.returncode == 2 and result.stderr.startswith(f"error: --out={tmp_path}/run/report is inside the run")
    assert (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8") == "its page"


def test_the_command_reports_the_rest_and_names_what_it_left_out(of_runs):
    assert of_runs.result.returncode == 3
    new, stopped, scores = of_runs.result.stderr.splitlines()
    assert new.startswith("warning: new is left out: results.json has format version")
    assert stopped == "warning: stopped is left out: unfinished"
    assert scores.startswith("warning: ") and scores.endswith("cat.csv is left out: missing")
    assert of_runs.result.stdout.splitlines()[-1] == f"4 runs of 4 rows: see {of_runs.out / 'index.html'}"


_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
_PROBE = """
<script>
addEventListener("load", () => {
  const column = () => [...document.querySelector("#table-8 tbody").rows].map((row) => row.cells[1].dataset.sort);
  const button = document.querySelector("#table-8 thead").rows[0].cells[1].querySelector("button");
  button.click();
  const rising = column();
  button.click();
  const requests = performance.getEntriesByType("resource").length;
  document.body.dataset.sorted = JSON.stringify({rising, falling: column(), requests});
});
</script></body>"""


@pytest.mark.long
@pytest.mark.skipif(_BROWSER is None, reason="needs Chromium")
def test_in_a_browser_tables_sort_and_nothing_goes_wrong(of_runs, tmp_path):
    text = (of_runs.out / "index.html").read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(text.replace("</body>", _PROBE), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/user",
    ]
    result = subprocess.run(
        [_BROWSER, *flags, "--dump-dom", f"file://{tmp_path}/index.html"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in result.stderr
    (body,) = Page(result.stdout).all("body")
    seen = json.loads(body["data-sorted"])
    numbers = [float(value) for value in seen["rising"] if value]
    assert numbers == sorted(numbers) and len(numbers) == 14
    assert [float(value) for value in seen["falling"] if value] == numbers[::-1]
    assert seen["requests"] == 0
