"""What all commands share: parsing of flags and settings, one-line errors, exit codes that scripts can rely on.

Exit codes: 0 success; 2 a mistake in usage, configuration or input; 3 finished, but some inputs could not be read;
4 something that is needed is in use by another run; 75 stopped by SIGTERM or Ctrl-C, to be continued by the same
command; 141 nobody reads the output any more; 1 anything else.

Only light modules are imported here, so that `--help` and mistakes are answered at once. A command imports JAX and the
like inside its own `main`.
"""

import atexit
import contextlib
import dataclasses
import functools
import importlib.util
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from brittle_jax import config as config_lib
from brittle_jax import console, interrupt
from brittle_jax.errors import BusyError, Interrupted, UserError, says_disk_full

EXIT_USER_ERROR = 2
EXIT_SKIPPED_INPUTS = 3
EXIT_BUSY = 4
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again later
EXIT_BROKEN_PIPE = 141  # as shells report a closed pipe

_FIXED_FIELDS = {"row", "word"}  # they name the config file itself


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a command was asked to do.

    Attributes:
        flags: values of the command's own flags, by name.
        config: the settings after all overrides, validated and locked; None if the command takes no config.
        recipe: the row's original settings, without the word and without overrides, for comparison; None likewise.
        words: what is no flag, for a command that takes rows.
        overrides: `--config.FIELD=VALUE` of all rows, for such a command.
    """

    flags: dict[str, object]
    config: ml_collections.ConfigDict | None = None
    recipe: ml_collections.ConfigDict | None = None
    words: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


def run(
    main: Callable[[Arguments], None],
    define_flags: Callable[[flags.FlagValues], None],
    argv: Sequence[str] | None = None,
    *,
    needs_config: bool = True,
    takes_rows: bool = False,
    goes_on: bool = True,
) -> None:
    """Parses the command line, calls `main`, and exits with the right code.

    Args:
        main: the command; the docstring of its module is the help text.
        define_flags: adds the command's own flags to the FlagValues that it is given.
        argv: the command line; None: that of the program.
        needs_config: whether the command takes `--config` and overrides of its fields.
        takes_rows: whether a command without a config takes words and overrides, which it gives to `configure` itself.
        goes_on: whether the same command goes on where it was stopped; else it starts from the beginning.
    """
    usage = sys.modules[main.__module__].__doc__ or ""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # file names may hold letters that the locale lacks

    def parse_flags(argv):
        flags.FLAGS(argv[:1])  # absl insists on parsing its own flags; ours are separate
        with _exit_codes(), interrupt.handled():
            return parse(argv, define_flags, usage, needs_config=needs_config, takes_rows=takes_rows)

    def run_main(arguments):
        again = (
            "run the same command again to continue" if goes_on else "run the same command again, from the beginning"
        )
        if arguments.flags.get("overwrite"):  # which would begin from the start once more
            again = "run the same command again, without --overwrite, to continue"
        with _exit_codes(again), interrupt.handled(), console.rewording(fields_as_flags), _own_temporary_folder():
            main(arguments)
        atexit.register(interrupt.ignore)  # all is done: a signal must not make it look otherwise

    app.run(run_main, argv=argv, flags_parser=parse_flags)


@contextlib.contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """Gives the process a temporary folder of its own, and removes it at the end with all that libraries left in it.

    tfds makes an empty folder for every data set that it does not find prepared, and never removes it.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="brittle_jax-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def fields_as_flags(message: str) -> str:
    """Returns a message with the dotted names of settings written as flags: `data.path` as `--config.data.path`.

    Values, paths and longer names that contain the name of a setting stay as they are.
    """
    return _field_names().sub(r"--config.\g<0>", message)


@functools.cache
def _field_names() -> re.Pattern[str]:
    names = [name for name in config_lib.flatten(config_lib.get_base_config()) if "." in name]
    # After a quote or "=" comes a value. A full stop may follow the name, but not an extension.
    return re.compile(rf"""(?<![\w./\\='"-])(?:{"|".join(map(re.escape, names))})(?![\w/\\-]|\.\w)""")


@contextlib.contextmanager
def _exit_codes(again: str = "") -> Iterator[None]:
    """Turns errors into one line and an exit code; `again` says how to go on."""
    try:
        yield
    except BusyError as error:
        print(f"busy: {_one_line(error)}", file=sys.stderr)
        sys.exit(EXIT_BUSY)
    except UserError as error:
        print(f"error: {fields_as_flags(_one_line(error))}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except Interrupted as error:
        with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends the reader, too
            cause = f" (after {type(error.__cause__).__name__}: {_one_line(error.__cause__)[:200]})"
            print(f"stopped by {error}{cause if error.__cause__ else ''}: {again}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone: nothing more can be printed, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_BROKEN_PIPE)
    except Exception as error:
        if says_disk_full(error):
            remedy = f"the disk is full: free some space and {again}"
        elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):  # the latter is XLA's
            remedy = "out of memory: lower the batch sizes, --config.distill.batch_size and the like"
        else:
            raise
        print(f"error: {remedy} ({_one_line(error)[:200]})", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def parse(
    argv: Sequence[str],
    define_flags: Callable[[flags.FlagValues], None],
    usage: str = "",
    *,
    needs_config: bool = True,
    takes_rows: bool = False,
) -> Arguments:
    """Returns what the command line asks for; arguments as in `run`.

    Raises:
        UserError: at the first mistake, saying what is wrong and how to fix it.
        SystemExit: with code 0, after printing the help text, for --help.
    """
    own_flags = flags.FlagValues()
    define_flags(own_flags)
    if any(argument in ("--help", "-help", "-h", "--helpfull") for argument in argv[1:]):
        flags_help = own_flags.main_module_help() or own_flags.get_help()
        print(usage.strip(), flags_help, *([_CONFIG_HELP] if needs_config else []), sep="\n\n")
        sys.exit(0)
    words, config_paths, overrides, own_arguments = _sort_arguments(argv[1:], own_flags, needs_config, takes_rows)
    recipe, config = configure(_only(config_paths), overrides) if needs_config else (None, None)
    try:
        own_flags([argv[0], *own_arguments])
    except (flags.Error, ValueError) as error:
        raise UserError(_one_line(error)) from None
    return Arguments(own_flags.flag_values_dict(), config, recipe, tuple(words), tuple(overrides))


_CONFIG_HELP = (
    "  --config=FILE[:WORD]: the config of a row, such as configs/xray_rotnet.py or configs/xray_rotnet.py:smoke\n"
    "  --config.FIELD=VALUE: changes a setting, such as --config.distill.num_epochs=5; "
    "brittle_jax/config.py lists them all"
)


def _sort_arguments(
    arguments: Sequence[str], own_flags: flags.FlagValues, needs_config: bool, takes_rows: bool
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Splits the arguments into words, values of --config, overrides of its fields, and the command's own flags."""
    words, config_paths, overrides, own = [], [], [], []
    remaining = list(arguments)
    seen, may_be_word = set(), takes_rows
    while remaining:
        argument = remaining.pop(0)
        match = re.fullmatch(r"--?([^=]+)(?:=(.*))?", argument, flags=re.DOTALL)
        if may_be_word and argument == "--":
            may_be_word = False  # settings follow
            continue
        if may_be_word and match is None:
            words.append(argument)
            continue
        if match is None:
            raise UserError(f"{argument!r} is a stray argument: write every setting as --name=value")
        name, value = match.groups()
        is_override = (needs_config or takes_rows) and name.startswith("config.")
        is_config = is_override or (needs_config and name == "config")
        is_bool = not is_config and name in own_flags and own_flags[name].boolean
        is_negated = name.startswith("no") and name[2:] in own_flags and own_flags[name[2:]].boolean
        if not is_config and name not in own_flags and not is_negated:
            known = [f"--{flag}" for flag in (*(["config"] if needs_config else []), *own_flags)]
            raise UserError(f"--{name} is not a flag of this command{config_lib.nearest(f'--{name}', known)}")
        if value is None and not is_bool and not is_negated:
            if not remaining or remaining[0].startswith("--"):
                raise UserError(f"--{name} has no value: write --{name}=VALUE")
            value = remaining.pop(0)
        if name in seen and name != "config":
            raise UserError(f"--{name} is given twice: give it once")
        seen.add(name.removeprefix("no") if is_negated else name)
        if is_config and not is_override:
            config_paths.append(value)
        elif is_override:
            overrides.append(f"--{name}={value}")
        else:
            own.append(argument if value is None else f"--{name}={value}")
    return words, config_paths, overrides, own


def _only(config_paths: list[str]) -> str:
    if not config_paths:
        raise UserError("--config is missing: name a row, such as --config=configs/xray_rotnet.py:smoke")
    if len(config_paths) > 1:
        raise UserError(f"--config is given {len(config_paths)} times: give it once")
    return config_paths[0]


def configure(
    path_and_word: str, overrides: Sequence[str]
) -> tuple[ml_collections.ConfigDict, ml_collections.ConfigDict]:
    """Returns the row's recipe, and its settings with the word and the overrides applied, validated and locked.

    Args:
        path_and_word: a config file, or the name of a row; then perhaps a colon and a word.
        overrides: `--config.FIELD=VALUE` each.

    Raises:
        UserError: if there is no such file, or a setting cannot be used.
    """
    recipe, config = _load(path_and_word)
    _apply_overrides(config, overrides)
    config_lib.validate(config)
    return recipe, config.lock()


def packaged_configs() -> pathlib.Path:
    """Returns the folder of the configs that come with the package."""
    package = pathlib.Path(__file__).parent
    # They are inside the package in a wheel, beside it in a checkout or an editable install.
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _load(path_and_word: str) -> tuple[ml_collections.ConfigDict, ml_collections.ConfigDict]:
    """Returns the row's recipe, and its settings with the word applied; path_and_word is `FILE[:WORD]`."""
    path, colon, word = path_and_word.partition(":")
    rows = sorted(file.stem for file in packaged_configs().glob("*.py"))
    file = pathlib.Path(path)
    if not os.path.isfile(file):  # unlike Path.is_file, never raises
        # configs/ROW.py outside a checkout, or just ROW, means the packaged file.
        named_like_packaged = path in rows or file.parent.as_posix() == "configs"
        packaged = packaged_configs() / f"{file.stem if file.suffix == '.py' else path}.py"
        if not (named_like_packaged and os.path.isfile(packaged)):
            hint = config_lib.nearest(file.stem, rows) or f" (there are {', '.join(rows)})"
            raise UserError(f"--config={path}: no such file{hint}")
        file = packaged
    try:
        get_config = _get_config_of(file)
        recipe = get_config(word if colon and word not in config_lib.SMALLER_WORDS else None)
        config = get_config(word) if colon else recipe.copy_and_resolve_references()
        _check_fields(recipe)
        _check_fields(config)
    except UserError as error:  # of the word, or of the user's own code
        raise UserError(f"--config={path_and_word}: {error}") from error
    except (Exception, SystemExit) as error:  # the file may be the user's own code
        raise UserError(f"--config={file}: cannot be loaded, {type(error).__name__}: {error}") from error
    return recipe, config


def _get_config_of(file: pathlib.Path) -> Callable[[str | None], ml_collections.ConfigDict]:
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    if spec is None:
        raise UserError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config


def _check_fields(config: ml_collections.ConfigDict) -> None:
    """Raises TypeError or AttributeError if the fields of a config file differ from the base's in name or type."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise TypeError(f"get_config returns a {type(config).__name__}, not a ConfigDict")
    # Named as in the file, config.distill.num_epochs: the flag is not what is wrong.
    base, fields = (
        {f"config.{name}": value for name, value in config_lib.flatten(each).items()}
        for each in (config_lib.get_base_config(), config)
    )
    for name in fields:
        if name not in base:
            raise AttributeError(f"{name} is not a field{config_lib.nearest(name, list(base))}")
    for name, default in base.items():
        if name not in fields:
            raise AttributeError(f"{name} is missing: start from brittle_jax.config.get_base_config()")
        if type(fields[name]) is not type(default):
            raise TypeError(f"{name} is {fields[name]!r}, not a {type(default).__name__}")


def _apply_overrides(config: ml_collections.ConfigDict, arguments: Sequence[str]) -> None:
    fields = config_lib.flatten(config)
    for argument in arguments:
        name, _, value = argument.removeprefix("--config.").partition("=")
        if name in _FIXED_FIELDS:
            raise UserError(f"--config.{name} cannot be set: it names the config file")
        if name not in fields:
            groups = sorted({field.rpartition(".")[0] for field in fields} - {""})
            if name in groups:
                raise UserError(f"--config.{name} is a group of fields: set one of them, --config.{name}.FIELD=...")
            hint = config_lib.nearest(name, list(fields)) or ": brittle_jax/config.py lists the fields"
            raise UserError(f"--config.{name} is not a field{hint}")
        overrides = flags.FlagValues()
        # The flag reads the overrides when it is defined, not when it is parsed.
        config_flags.DEFINE_config_dict("config", config, flag_values=overrides, sys_argv=["", argument])
        try:
            overrides(["", argument])
        except (flags.Error, TypeError, ValueError, OverflowError):
            expected = {int: "a whole number", float: "a number", bool: "true or false"}
            kind = expected.get(type(fields[name]), f"a {type(fields[name]).__name__}")
            raise UserError(f"--config.{name}={value!r} is not {kind}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def default_workdir(config: ml_collections.ConfigDict) -> str:
    """Returns `runs/ROW`, or `runs/ROW-WORD` if there is a word."""
    return os.path.join("runs", f"{config.row}-{config.word}" if config.word else config.row)
