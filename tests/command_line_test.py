import json
import os
import re
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds
from absl import flags

from brittle_jax import command_line, config, console, runtime
from brittle_jax.errors import BusyError, Interrupted, UserError
from brittle_jax.main import define_flags, main
from brittle_jax.run import holding

ROW = "--config=configs/xray_rotnet.py"


def parse(*arguments):
    return command_line.parse(["main", *arguments], define_flags)


def test_defaults():
    arguments = parse(ROW)
    assert arguments.config.row == "xray_rotnet"
    assert arguments.config.distill.num_epochs == 20
    assert arguments.flags == {
        "workdir": None,
        "overwrite": False,
        "estimate": False,
        "wait": True,
        "minutes_between_saves": 5.0,
    }
    assert command_line.default_workdir(arguments.config) == os.path.join("runs", "xray_rotnet")


def test_the_word_changes_the_config_and_not_the_recipe():
    arguments = parse(f"{ROW}:smoke", "--overwrite", "--workdir", "there")
    assert arguments.config.network.name == "densenet_tiny"
    assert arguments.recipe.network.name == "densenet161"
    assert arguments.flags["workdir"] == "there" and arguments.flags["overwrite"]
    assert command_line.default_workdir(arguments.config) == os.path.join("runs", "xray_rotnet-smoke")


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("distill.num_epochs", "5", 5.0),
        ("distill.update_steps", "7", 7),
        ("distill.learning_rate", "1e-3", 1e-3),
        ("pretrain.flip", "true", True),
        ("data.configurations", "unimodal/airplane,multimodal/cat", "unimodal/airplane,multimodal/cat"),
        ("data.dir", "a=b", "a=b"),
    ],
)
def test_every_type_of_field_can_be_overridden(field, text, value):
    arguments = parse(ROW, f"--config.{field}={text}")
    group, name = field.split(".")
    assert arguments.config[group][name] == value
    assert arguments.recipe[group][name] != value
    assert parse(ROW, f"--config.{field}", text).config[group][name] == value


def test_the_config_is_locked():
    with pytest.raises(AttributeError):
        parse(ROW).config.nothing = 1


def test_packaged_configs_need_no_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parse("--config=xray_rotnet:smoke").config.word == "smoke"
    assert parse(ROW).config.row == "xray_rotnet"


def test_a_file_of_ones_own_goes_before_the_packaged_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "xray_rotnet.py").write_text(
        "from brittle_jax.recipes import densenet_row\n"
        "def get_config(word=None):\n"
        "    return densenet_row('mine', word, data='xray', teacher='random')\n"
    )
    assert parse(ROW).config.row == "mine"


MISTAKES = {
    "no config": ([], "--config is missing"),
    "missing config": (["--config=configs/xray_rotnot.py"], "no such file .did you mean xray_rotnet"),
    "unknown word": ([f"{ROW}:smok"], "the words are 'smoke' and 'cpu'"),
    "empty word": ([f"{ROW}:"], "the words are 'smoke' and 'cpu'"),
    "a word of other rows": (["--config=cifar10_random:cpu"], "the only word is 'smoke'"),
    "two configs": ([ROW, ROW], "given 2 times"),
    "misspelt field": (
        [ROW, "--config.distil.num_epochs=2"],
        "--config.distil.num_epochs is not a field .*distill",
    ),
    "group": ([ROW, "--config.distill=2"], "group of fields"),
    "wrong type": ([ROW, "--config.distill.update_steps=2.5"], "update_steps='2.5' is not a whole number"),
    "wrong number": ([ROW, "--config.distill.num_epochs=two"], "num_epochs='two' is not a number"),
    "wrong boolean": ([ROW, "--config.pretrain.flip=perhaps"], "flip='perhaps' is not true or false"),
    "stray argument": ([ROW, "smoke"], "'smoke' is a stray argument"),
    "unknown flag": ([ROW, "--workdirr=x"], "--workdirr is not a flag .*did you mean --workdir"),
    "no value": ([ROW, "--workdir"], "--workdir has no value"),
    "wrong flag value": ([ROW, "--overwrite=perhaps"], "overwrite"),
    "unknown choice": (
        [ROW, "--config.teacher.task=rotnot"],
        "teacher.task='rotnot' is not one of .*did you mean",
    ),
    "negative number": ([ROW, "--config.distill.num_epochs=-1"], "give a number above 0"),
    "not a number": ([ROW, "--config.distill.learning_rate=nan"], "give a finite number"),
    "zero batch": ([ROW, "--config.evaluate.batch_size=0"], "give at least 1"),
    "negative seed": ([ROW, "--config.seed=-1"], "give 0 or more"),
    "negative seed of a network": (
        [ROW, "--config.distill.seed=-2"],
        "--config.distill.seed=-2: give 0 or more, or -1",
    ),
    "seeds": ([ROW, "--config.seeds=0,0"], "seeds='0,0': give different whole numbers"),
    "seed and seeds": ([ROW, "--config.seeds=0,1", "--config.seed=1"], "seed=1 and seeds='0,1' are both set"),
    "tiny patch": ([ROW, "--config.data.patches.size_pixels=16"], "give at least 32"),
    "odd size": (["--config=cifar10_random", "--config.data.image_size_pixels=30"], "give a multiple of 8"),
    "cutout larger than the image": (
        ["--config=cifar10_baseline", "--config.pretrain.cutout_pixels=40"],
        "--config.pretrain.cutout_pixels=40: give less than the side of the images, 32",
    ),
    "baseline elsewhere": (
        ["--config=cifar10_baseline", "--config.teacher.data=fashion_mnist"],
        "the supervised baseline learns the anomaly-detection data itself: leave --config.teacher.data empty",
    ),
    "row": ([ROW, "--config.row=mine"], "row cannot be set"),
    "negated flag with a value": ([ROW, "--nooverwrite=true"], "overwrite"),
    "batch beyond reason": ([ROW, "--config.evaluate.batch_size=1000000000000"], "give at most 65536"),
    "a flag given twice": ([ROW, "--workdir=a", "--workdir=b"], "--workdir is given twice: give it once"),
    "a field given twice": ([ROW, "--config.seed=1", "--config.seed=2"], "--config.seed is given twice: give it once"),
    "random with data": ([ROW, "--config.teacher.task=random"], "set --config.teacher.data= .empty."),
    "a folder that a data set is not read from": (
        ["--config=cifar10_random", "--config.data.path=somewhere"],
        "--config.data.path='somewhere': cifar10 is read from --config.data.dir: leave it empty",
    ),
    "a size that is none": (["--config=image_folder:large"], "image_folder:large: the word is 'smoke', the side"),
}


@pytest.fixture
def run_in_process(monkeypatch, tmp_path, capsys):
    """Runs a command here, in an empty folder; returns its exit code and what it printed to standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "set_up", lambda: None)  # its settings of JAX would outlive the test

    def run(*arguments, command=main, define_flags=define_flags, needs_config=True):
        with pytest.raises(SystemExit) as stopped:
            command_line.run(command, define_flags, ["main", *arguments], needs_config=needs_config)
        return stopped.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(run_in_process, tmp_path, case):
    arguments, message = MISTAKES[case]
    code, printed = run_in_process(*arguments)
    assert code == 2
    assert re.fullmatch(f"error: .*{message}.*\n", printed), printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("goes_on", "advice"),
    [(True, "run the same command again to continue"), (False, "run the same command again, from the beginning")],
)
def test_a_command_that_is_stopped_says_what_the_same_command_will_do(capsys, goes_on, advice):
    def stop(arguments):
        raise Interrupted("SIGTERM")

    with pytest.raises(SystemExit) as stopped:
        command_line.run(stop, define_flags, ["main", ROW], goes_on=goes_on)
    assert stopped.value.code == command_line.EXIT_INTERRUPTED
    assert capsys.readouterr().err == f"stopped by SIGTERM: {advice}\n"


def write_to_a_full_disk():
    with open("/dev/full", "w") as file:
        file.write("x")


def save_as_orbax_does_on_a_full_disk():
    raise ValueError("RESOURCE_EXHAUSTED: Failed to write 128228 bytes\nto file 18: No space left on device [28]")


def fail_after_a_full_disk():
    try:
        write_to_a_full_disk()
    finally:
        raise RuntimeError("what it was to be closed with")


@pytest.mark.parametrize("fail", [write_to_a_full_disk, save_as_orbax_does_on_a_full_disk, fail_after_a_full_disk])
def test_a_full_disk_is_one_line_and_exit_code_2(capsys, fail):
    with pytest.raises(SystemExit) as stopped:
        command_line.run(lambda arguments: fail(), define_flags, ["main", ROW])
    assert stopped.value.code == 2
    assert re.fullmatch(
        "error: the disk is full: free some space and run the same command again .*\n", capsys.readouterr().err
    )


def test_any_other_error_is_not_taken_for_a_full_disk():
    def fail():
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        command_line.run(lambda arguments: fail(), define_flags, ["main", ROW])


BROKEN_CONFIGS = {
    "def get_config(:": "cannot be loaded, SyntaxError",
    "x = 1": "cannot be loaded, AttributeError",
    "import sys; sys.exit('bye')": "cannot be loaded, SystemExit: bye",
    "def get_config(word=None): return {}": "get_config returns a dict, not a ConfigDict",
    "def get_config(word=None): raise ValueError('one\\ntwo')": "ValueError: one two",
    "def get_config(word=None): return None if word else base()": "get_config returns a NoneType",
    "def get_config(word=None): c = base(); c.distill.num_epoch = 3; return c": "config.distill.num_epoch is not a "
    "field .did you mean config.distill.num_epochs",
    "def get_config(word=None): c = base(); del c.seed; return c": "seed is missing",
    "def get_config(word=None): c = base(); c.distill.num_epochs = (1, 2); return c": "num_epochs",
}


@pytest.mark.parametrize("text", BROKEN_CONFIGS)
def test_a_broken_config_file_is_one_line_and_exit_code_2(run_in_process, tmp_path, text):
    file = tmp_path / "broken.py"
    file.write_text(f"from brittle_jax.config import get_base_config as base\n{text}\n")
    code, printed = run_in_process(f"--config={file}:word")
    assert code == 2
    assert re.fullmatch(f"error: .*{BROKEN_CONFIGS[text]}.*\n", printed), printed


def not_prepared(folder):
    return ["--config=cifar10_random", f"--config.data.dir={folder}"]


def prepared_for_tensorflow(folder):
    builder = tfds.builder("cifar10", data_dir=folder)
    target = folder / "cifar10" / str(builder.version)
    target.mkdir(parents=True)
    builder.info.set_file_format("tfrecord")
    builder.info.write_to_directory(target)
    return not_prepared(folder)


def cut_short(folder):
    target = folder / "cifar10" / str(tfds.builder("cifar10", data_dir=folder).version)
    target.mkdir(parents=True)
    (target / "dataset_info.json").write_text('{"name": "cif')
    (target / "features.json").write_text("{")
    return not_prepared(folder)


def another_configs_workdir(folder):
    fields = config.flatten(parse(f"{ROW}:smoke").config)
    (folder / "config.json").write_text(json.dumps({**fields, "seed": 7}))
    return [f"{ROW}:smoke", f"--workdir={folder}"]


MISTAKES_OF_INPUT = {
    "data folder missing": (lambda folder: not_prepared(folder / "nothing"), "nothing: no such folder"),
    "data not prepared": (not_prepared, "cifar10 is not in .*tfds build cifar10"),
    "data of a kind that needs TensorFlow": (prepared_for_tensorflow, "in the format tfrecord, which only TensorFlow"),
    "data cut short": (cut_short, "cifar10 in .* is damaged"),
    "one class empty": (
        lambda folder: [f"{ROW}:smoke", f"--config.data.dir={folder}", "--config.data.parcels.num_threat=0"],
        "num_threat=0 leaves no threats to test on",
    ),
    "configuration that does not exist": (
        lambda folder: [ROW, "--config.data.configurations=sock"],
        "no configuration 'sock' .did you mean soc",
    ),
    "batch that the devices do not divide": (
        lambda folder: [ROW, "--config.distill.batch_size=30"],
        "distill.batch_size=30 cannot be shared evenly by 4 device",
    ),
    "another config's workdir": (another_configs_workdir, "belongs to a run with seed=7, not 0"),
    "a workdir that is not a run's": (
        lambda folder: (folder / "thesis.tex").touch() or [f"{ROW}:smoke", f"--workdir={folder}", "--overwrite"],
        "has no config.json of a run",
    ),
    "a workdir that is a file": (
        lambda folder: (folder / "file").touch() or [f"{ROW}:smoke", f"--workdir={folder / 'file'}"],
        "is a file",
    ),
}


@pytest.mark.parametrize("case", MISTAKES_OF_INPUT)
def test_a_mistake_of_input_is_one_line_and_exit_code_2(run_in_process, tmp_path, tmp_path_factory, case):
    prepare, message = MISTAKES_OF_INPUT[case]
    code, printed = run_in_process(*prepare(tmp_path_factory.mktemp("input")))
    assert code == 2
    assert re.fullmatch(f"error: .*{message}.*\n", printed), printed
    assert list(tmp_path.iterdir()) == []  # no runs/ROW was begun


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "brittle_jax.main", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": "", **environment},
    )


def test_the_command_exits_with_2_and_one_line():
    finished = run(f"{ROW}:smoke", "--config.distill.epochs=2")
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith("error: --config.distill.epochs is not a field")
    assert finished.stderr.count("\n") == 1


def test_help_exits_with_0_and_names_every_flag():
    finished = run("--help")
    assert finished.returncode == 0
    for name in ("--config", "--workdir", "--[no]overwrite", "smoke"):
        assert name in finished.stdout


def test_the_package_lists_its_commands():
    finished = subprocess.run([sys.executable, "-m", "brittle_jax"], capture_output=True, text=True)
    assert finished.returncode == 0
    assert "python -m brittle_jax.main" in finished.stdout


@pytest.mark.parametrize("arguments", [["--config=configs/xray_rotnet.py:smoke"], ["main"]])
def test_the_package_itself_runs_nothing_and_says_what_does(arguments):
    finished = subprocess.run([sys.executable, "-m", "brittle_jax", *arguments], capture_output=True, text=True)
    assert finished.returncode == 2 and finished.stdout == ""
    assert f"did you mean python -m brittle_jax.main {arguments[0]}" in finished.stderr


HEAVY = {"jax", "flax", "tensorflow_datasets", "grain", "sklearn", "torch", "tensorboardX"}


@pytest.mark.parametrize("row", ["xray_rotnet:smoke", "cifar10_cifar_simclr", "image_folder:224-imagenet"])
def test_parsing_imports_nothing_heavy(row):
    program = f"""
import sys
from brittle_jax import command_line, main
command_line.parse(["main", "--config={row}", "--config.distill.num_epochs=3"], main.define_flags)
print(*sys.modules)
"""
    imported = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert "brittle_jax.recipes" in imported
    assert not HEAVY & set(imported)


def count_lines(arguments):
    """Counts the lines of a file."""
    with open(arguments.flags["file"], encoding="utf-8") as file:
        console.say(str(len(file.readlines())))
    if arguments.flags["strict"]:
        raise UserError("the file has\nlines")


def define_count_flags(flag_values):
    flags.DEFINE_string("file", None, "the file to read", required=True, flag_values=flag_values)
    flags.DEFINE_bool("strict", False, "allow no lines", flag_values=flag_values)


def parse_count(*arguments):
    return command_line.parse(["count", *arguments], define_count_flags, "Counts lines.", needs_config=False)


def test_a_command_without_a_config_gets_its_flags():
    arguments = parse_count("--file", "there", "--strict")
    assert arguments.flags == {"file": "there", "strict": True}
    assert arguments.config is None and arguments.recipe is None


def test_a_command_without_a_config_does_its_work_and_exits_with_0(tmp_path, capsys):
    (tmp_path / "three").write_text("1\n2\n3\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        command_line.run(count_lines, define_count_flags, ["count", f"--file={tmp_path / 'three'}"], needs_config=False)
    assert not stopped.value.code
    assert capsys.readouterr() == ("3\n", "")


MISTAKES_WITHOUT_CONFIG = {
    "config": (["--file=x", "--config=xray_rotnet"], "--config is not a flag of this command"),
    "field": (["--file=x", "--config.seed=1"], "--config.seed is not a flag of this command"),
    "unknown flag": (["--fil=x"], "--fil is not a flag of this command .did you mean --file"),
    "required flag missing": ([], "--file"),
    "no value": (["--file"], "--file has no value: write --file=VALUE"),
    "stray argument": (["--file=x", "y"], "'y' is a stray argument"),
    "wrong boolean": (["--file=x", "--strict=perhaps"], "strict"),
    "raised by the command": ([f"--file={os.devnull}", "--strict"], "the file has lines"),
}


@pytest.mark.parametrize("case", MISTAKES_WITHOUT_CONFIG)
def test_a_mistake_without_a_config_is_one_line_and_exit_code_2(run_in_process, case):
    arguments, message = MISTAKES_WITHOUT_CONFIG[case]
    code, printed = run_in_process(*arguments, command=count_lines, define_flags=define_count_flags, needs_config=False)
    assert code == 2
    assert re.fullmatch(f"error: .*{message}.*\n", printed), printed


def test_help_without_a_config_speaks_of_the_flags_alone(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_count("--help")
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Counts lines.\n")
    assert "--file" in printed and "--[no]strict" in printed and "--config" not in printed


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("data.path=DIR: no such folder", "--config.data.path=DIR: no such folder"),
        ("lower distill.learning_rate", "lower --config.distill.learning_rate"),
        ("raise (data.patches.size_pixels).", "raise (--config.data.patches.size_pixels)."),
        ("data.path or data.dir.", "--config.data.path or --config.data.dir."),
        ("set --config.data.path", "set --config.data.path"),
        ("config.data.path is not a field", "config.data.path is not a field"),
        ("data.path='data.dir': no such folder", "--config.data.path='data.dir': no such folder"),
        ("data.path=data.dir: no such folder", "--config.data.path=data.dir: no such folder"),
        ("/home/data.path/train.csv is damaged", "/home/data.path/train.csv is damaged"),
        ("data.path/train.csv is damaged", "data.path/train.csv is damaged"),
        ("my-data.path, data.path-2 and data.path.bak", "my-data.path, data.path-2 and data.path.bak"),
        ("old_data.path or data.paths", "old_data.path or data.paths"),
        (r"C:\data.path\x", r"C:\data.path\x"),
        ("data.pathology, data and seed", "data.pathology, data and seed"),
    ],
)
def test_names_of_settings_become_flags_and_paths_stay(message, printed):
    assert command_line.fields_as_flags(message) == printed


def test_errors_and_warnings_of_a_command_name_flags(run_in_process, capsys):
    def command(arguments):
        console.warn("data.path holds few images")
        raise UserError("the loss is nan: lower distill.learning_rate")

    code, printed = run_in_process(ROW, command=command)
    assert code == 2
    assert printed.splitlines() == [
        "warning: --config.data.path holds few images",
        "error: the loss is nan: lower --config.distill.learning_rate",
    ]
    console.warn("data.path holds few images")  # of the library, without a command
    assert capsys.readouterr().err == "warning: data.path holds few images\n"


def test_nothing_is_left_in_the_temporary_folder(tmp_path):
    program = f"""
import tempfile
import tensorflow_datasets as tfds
from brittle_jax import command_line

def look_up_what_is_not_there(arguments):
    tfds.builder("cifar10", data_dir={str(tmp_path)!r})
    print(tempfile.mkdtemp())

command_line.run(look_up_what_is_not_there, lambda flag_values: None, needs_config=False)
"""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    made = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert made.startswith(str(temporary))
    assert list(temporary.iterdir()) == []


def test_what_is_busy_is_one_line_and_exit_code_4(run_in_process):
    def command(arguments):
        raise BusyError("teacher rotnet is\nbeing trained")

    assert run_in_process(ROW, command=command) == (4, "busy: teacher rotnet is being trained\n")


def test_a_workdir_that_is_in_use_is_exit_code_4(run_in_process, tmp_path):
    with holding.hold(tmp_path):
        code, printed = run_in_process(ROW, f"--workdir={tmp_path}")
    assert code == 4 and re.fullmatch(
        "busy: --workdir=.* is in use by process .*: wait for it, or name another\n", printed
    )


def test_a_command_of_rows_takes_words_and_settings():
    argv = ["batch", "check", "--workdir=x", "xray", "--", "--config.seed=1", "--config.data.dir", "d"]
    arguments = command_line.parse(argv, define_flags, needs_config=False, takes_rows=True)
    assert arguments.words == ("check", "xray") and arguments.flags["workdir"] == "x" and arguments.config is None
    assert arguments.overrides == ("--config.seed=1", "--config.data.dir=d")
    with pytest.raises(UserError, match="--config is not a flag of this command"):
        command_line.parse(["batch", ROW], define_flags, needs_config=False, takes_rows=True)
    with pytest.raises(UserError, match="'xray' is a stray argument"):
        command_line.parse(["batch", "check", "--", "xray"], define_flags, needs_config=False, takes_rows=True)
