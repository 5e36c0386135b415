"""Links and hidden files, in the folders of every layout."""

from dataclasses import replace

import numpy as np
import pytest

from brittle_jax.data.datasets.listing import Entry, Listing, find_files
from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError
from tests.data.folders import save


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "elsewhere"
    for number in range(30):
        save(folder / f"{number:02d}.png", number)
    return folder


def test_a_link_directly_in_the_folder_is_followed(settings, folder, elsewhere):
    (folder / "crack").symlink_to(elsewhere)
    dataset = load("image_folder", settings)
    assert np.bincount(dataset.samples.labels).tolist() == [6, 30, 2, 1]
    assert "crack/00.png" in dataset.samples.ids


def test_the_folder_of_normal_pictures_may_be_a_link(settings, folder, elsewhere):
    (folder / "normal").rename(folder.parent / "before")
    (folder / "normal").symlink_to(elsewhere)
    assert np.bincount(load("image_folder", settings).samples.labels).tolist() == [30, 2, 1]


def test_the_named_folder_may_be_a_link(settings, folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    settings = replace(settings, path=str(link))
    assert len(load("image_folder", settings).samples.ids) == 9


def test_a_deeper_link_is_refused_once(settings, folder, elsewhere):
    (folder / "dent" / "more").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"1 of 10 .*: 'dent/more' \(a link that leads out of the folder\);"):
        load("image_folder", settings)


def test_a_link_to_the_parent_folder_is_refused(settings, folder):
    (folder / "up").symlink_to(folder.parent)
    with pytest.raises(UserError, match=r"1 of 10 .*: 'up' \(a link that leads out of the folder\);"):
        load("image_folder", settings)


def test_a_link_in_a_linked_folder_is_refused_if_it_leads_out_of_that(settings, folder, elsewhere, tmp_path):
    (folder / "crack").symlink_to(elsewhere)
    (elsewhere / "again.png").symlink_to(elsewhere / "00.png")
    assert "crack/again.png" in load("image_folder", settings).samples.ids
    save(tmp_path / "third" / "0.png")
    (elsewhere / "third").symlink_to(tmp_path / "third")
    with pytest.raises(UserError, match=r"1 of 41 .*: 'crack/third' \(a link that leads out of the folder\);"):
        load("image_folder", settings)


@pytest.mark.parametrize("place", ["normal", "scratch", "dent/more", "dent/0.png"])
def test_a_link_to_nowhere_says_so(settings, folder, place):
    if (folder / place).is_dir():
        (folder / place).rename(folder.parent / "before")
    (folder / place).symlink_to(folder.parent / "nowhere")
    with pytest.raises(UserError, match=rf"'{place}' \(a link to nowhere\);"):
        load("image_folder", settings)


def test_refusals_name_what_leads_out(folder, elsewhere):
    (folder / "top").symlink_to(elsewhere)
    (folder / "dent" / "link.png").symlink_to("/etc/hostname")
    listing = Listing("image_folder", folder, ("normal",), ("",), ())
    assert listing.refusal_of(folder / "normal" / "0.png") is None
    assert listing.refusal_of(folder / "normal" / "missing.png") is None
    assert listing.refusal_of(folder / "top" / "00.png") is None
    assert listing.refusal_of(elsewhere / "00.png") is None
    assert listing.refusal_of(folder / "dent" / "link.png") == "a link that leads out of the folder"
    assert listing.refusal_of(folder.parent / "x.png") == "leads out of the folder"
    assert listing.refusal_of(folder / ".." / "x.png") == "leads out of the folder"
    assert listing.refusal_of(folder / "a\0b.png") == "a name that no file can have"


def test_hidden_files_and_folders_are_not_found(folder, elsewhere):
    for place in ("normal/.hidden.png", ".cache/0.png", "dent/.a/0.png", "._own.json"):
        save(folder / "x.png")
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / "x.png").rename(folder / place)
    (folder / ".link").symlink_to(elsewhere)
    assert len(list(find_files(folder, folder))) == 9


def test_two_samples_with_the_same_id_are_refused(tmp_path):
    with pytest.raises(UserError, match="two samples have the id 'a'"):
        Listing("image_folder", tmp_path, ("normal",), ("",), (Entry("a", "normal", ()), Entry("a", "normal", ())))


def test_links_to_folders_that_are_found_anyway_are_not_followed(folder, elsewhere):
    before = len(list(find_files(folder, folder)))
    (folder / "alias").symlink_to(folder / "dent")
    (folder / "top").symlink_to(elsewhere)
    (folder / "dent" / "again").symlink_to(elsewhere)
    assert len(list(find_files(folder, folder))) == before + 30


def test_only_the_first_of_many_kinds_are_listed(settings, folder, capsys):
    for number in range(40):
        save(folder / f"kind{number:02d}" / "0.png")
    load("image_folder", settings)
    lines = capsys.readouterr().out.splitlines()
    assert lines[30:32] == ["  kind27  1 picture   kind27/", "  and 13 more kinds"]


def test_only_the_first_folders_of_scattered_pictures_are_listed(settings, folder, capsys):
    for name in "abcd":
        save(folder / name / "x" / "0.png")
    lines = [f"{name}/x/0.png,normal" for name in "abcd"] + ["normal/0.png,bad"]
    (folder / "table.csv").write_text("\n".join(["path,label", *lines]))
    settings = replace(settings, path=str(folder / "table.csv"))
    load("image_folder", settings)
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "  normal  4 pictures  a/, b/, c/, and 1 more",
        "  bad     1 picture   normal/",
    ]
