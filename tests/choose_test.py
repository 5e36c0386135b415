import shlex

import pytest

from brittle_jax import choose, command_line
from brittle_jax.errors import UserError
from brittle_jax.report import choice_page
from brittle_jax.run import choice
from tests.conftest import save_noise


def parsed(*arguments):
    return command_line.parse(["choose", *arguments], choose.define_flags, needs_config=False, takes_rows=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--images is missing: name a folder of normal images"),
        (("--images=nowhere",), "--out is missing"),
        (("--images=nowhere", "--out=out"), "--images=nowhere: no such folder"),
        (("--images=empty", "--out=out"), "--images=empty holds no pictures"),
        (("--images=.", "--out=./out"), "--out=out is inside of --images=.: name a folder elsewhere"),
        (("--images=images", "--out=out", "--budget=soon"), "--budget=soon is not a time: give one such as 10m or 2h"),
        (("--images=images", "--out=out", "--budget=0m"), "--budget=0m is not a time"),
        (("--images=images", "--out=out", "--teachers=rotnet,rotnet"), "name each candidate once"),
        (
            ("--images=images", "--out=out", "--teachers=rotnit"),
            "'rotnit' is neither a candidate .* mean rotnet",
        ),
        (("--images=images", "--out=out", "--most_images=9"), "--most_images=9: .* 10"),
        (("--images=images", "--out=out", "more"), "'more' is a stray argument"),
        (("--images=images", "--out=out", "--anomalies=nowhere"), "--anomalies=nowhere: no such folder"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save_noise(tmp_path / "images", 1)
    with pytest.raises(UserError, match=message):
        choose.main(parsed(*arguments))
    assert not (tmp_path / "out").exists()


def test_images_that_are_left_out_show_in_the_exit_code(tmp_path, monkeypatch):
    save_noise(tmp_path / "images", 1)
    monkeypatch.setattr(choice, "choose", lambda *_, **__: {"candidates": [{"num_skipped": 0}, {"num_skipped": 2}]})
    monkeypatch.setattr(choice_page, "table", lambda content: "")
    monkeypatch.setattr(choice_page, "write_page", lambda out, content: out)
    with pytest.raises(SystemExit) as raised:
        choose.main(parsed(f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'out'}", "--teachers=rotnet"))
    assert raised.value.code == command_line.EXIT_SKIPPED_INPUTS


def test_only_the_normal_images_are_linked(tmp_path):
    save_noise(tmp_path / "set" / "normal", 2)
    save_noise(tmp_path / "set" / "scratch", 2)
    normal = choose.normal_images(str(tmp_path / "set"))
    assert normal == (tmp_path / "set" / "normal").resolve() == choose.normal_images(str(tmp_path / "set" / "normal"))
    linked = choose.linked(normal, tmp_path / "out")
    assert sorted(each.name for each in linked.rglob("*.png")) == []  # a link is not walked
    assert [each.name for each in linked.iterdir()] == ["normal"]
    assert (linked / "normal").resolve() == normal


def test_the_images_of_a_choice_stay_once_a_candidate_has_run(tmp_path):
    first, second = (save_noise(tmp_path / name, 1) or tmp_path / name for name in ("first", "second"))
    assert (choose.linked(first, tmp_path / "out") / "normal").resolve() == first
    assert (choose.linked(second, tmp_path / "out") / "normal").resolve() == second
    (tmp_path / "out" / "candidates").mkdir()
    assert (choose.linked(second, tmp_path / "out") / "normal").resolve() == second
    with pytest.raises(UserError, match="is a choice for .*second: name another folder for these images"):
        choose.linked(first, tmp_path / "out")


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
    ((name, config, command),) = choose.configured([str(run)], ["--config.teacher.weights_sha256="], tmp_path)
    assert name == f"run-{run.name}"
    assert config.teacher.from_run == str(run) and config.network.name == "mini" and config.teacher.task == "random"
    assert command.startswith("python -m brittle_jax.main --config=configs/image_folder.py:random --config.data.path=")
    assert f"--config.teacher.from_run={run}" in command


def test_the_command_of_a_candidate_is_one_for_a_shell(tmp_path):
    out = tmp_path / "my choice"
    ((_, _, command),) = choose.configured(["rotnet"], ["--config.data.dir=my data"], out)
    words = shlex.split(command)
    assert words[-2:] == [f"--config.data.path={out / 'pictures'}", "--config.data.dir=my data"]
    candidates = [{"name": "rotnet", "run": f"{out}/candidates/rotnet"}]
    content = {"choice": {"candidate": "rotnet", "detector": "kd"}, "candidates": candidates}
    assert f"--run={out}/candidates/rotnet" in shlex.split(choice_page.score_command(content))


def test_folders_that_count_as_normal_are_named(tmp_path, capsys):
    save_noise(tmp_path / "set" / "scab", 2)
    save_noise(tmp_path / "plain", 2)
    choose.normal_images(str(tmp_path / "set"))
    assert "images in its folders are taken as normal, too: scab" in capsys.readouterr().err
    choose.normal_images(str(tmp_path / "plain"))
    assert capsys.readouterr().err == ""
