import pytest

from brittle_jax import choose, command_line
from brittle_jax.errors import UserError
from tests.conftest import save_noise


def parsed(*arguments):
    return command_line.parse(["choose", *arguments], choose.define_flags, needs_config=False, takes_rows=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--images is missing: name a folder of normal images"),
        (("--images=nowhere",), "--out is missing"),
        (("--images=nowhere", "--out=out"), "--images=nowhere: no such folder"),
        (("--images=.", "--out=out", "--budget=soon"), "--budget=soon is not a time: give one such as 10m or 2h"),
        (("--images=.", "--out=out", "--budget=0m"), "--budget=0m is not a time"),
        (("--images=.", "--out=out", "--teachers=rotnet,rotnet"), "name each candidate once"),
        (("--images=.", "--out=out", "--teachers=rotnit"), "'rotnit' is neither a candidate .* .did you mean rotnet"),
        (("--images=.", "--out=out", "more"), "'more' is a stray argument"),
        (("--images=.", "--out=out", "--anomalies=nowhere"), "--anomalies=nowhere: no such folder"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        choose.main(parsed(*arguments))
    assert not (tmp_path / "out").exists()


def test_only_the_normal_images_are_linked(tmp_path):
    save_noise(tmp_path / "set" / "normal", 2)
    save_noise(tmp_path / "set" / "scratch", 2)
    linked = choose.linked(tmp_path / "set", tmp_path / "out")
    assert sorted(each.name for each in linked.rglob("*.png")) == []  # a link is not walked
    assert [each.name for each in linked.iterdir()] == ["normal"]
    assert (linked / "normal").resolve() == (tmp_path / "set" / "normal").resolve()
    assert choose.linked(tmp_path / "set" / "normal", tmp_path / "out") == linked  # the same images
    with pytest.raises(UserError, match="is a choice for .*: name another folder for these images"):
        choose.linked(tmp_path / "set" / "scratch", tmp_path / "out")


def test_anomalies_are_taken_by_folder(tmp_path):
    save_noise(tmp_path / "bad" / "scratch" / "deep", 2)
    save_noise(tmp_path / "bad" / "dent", 1)
    save_noise(tmp_path / "flat", 3)
    assert {kind: len(found) for kind, found in choose.kinds_of(str(tmp_path / "bad")).items()} == {
        "dent": 1,
        "scratch": 2,
    }
    assert {kind: len(found) for kind, found in choose.kinds_of(str(tmp_path / "flat")).items()} == {"flat": 3}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        choose.kinds_of(str(tmp_path / "empty"))


def test_a_finished_run_can_be_a_candidate(small_own_run, tmp_path):
    run, _ = small_own_run
    ((name, config),) = choose.configured([str(run)], ["--config.teacher.weights_sha256="], tmp_path)
    assert name == f"run-{run.name}"
    assert config.teacher.from_run == str(run) and config.network.name == "mini" and config.teacher.task == "random"
