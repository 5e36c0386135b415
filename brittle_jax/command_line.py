"""The flags parser of every command: one line for a mistake, and exit codes that scripts can rely on.

Exit codes: 0 done, 2 bad usage, configuration or input, 3 finished without inputs that could not be read, 130
interrupted from the keyboard, 141 output that nobody reads, 1 anything else.
"""

import contextlib
import dataclasses
import errno
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from brittle_jax import config as config_lib
from brittle_jax import runtime
from brittle_jax.errors import UserError

EXIT_USER_ERROR = 2
EXIT_SKIPPED_INPUTS = 3
EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C
EXIT_BROKEN_PIPE = 141  # as a shell reports output that nobody reads

_FIXED_FIELDS = {"row", "word"}  # they name the file that was asked for


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a command was asked to do.

    Attributes:
        config: the settings after all overrides, checked and locked.
        recipe: the row's own settings, not made small and without overrides; what results are compared with.
        flags: values of the command's own flags, by name.
    """

    config: ml_collections.ConfigDict
    recipe: ml_collections.ConfigDict
    flags: dict[str, object]


def run(
    main: Callable[[Arguments], None],
    define_flags: Callable[[flags.FlagValues], None],
    argv: Sequence[str] | None = None,
) -> None:
    """Parses the command line, calls `main`, and exits with the right code.

    Args:
        main: the command; its module's docstring is the help text.
        define_flags: adds the command's own flags to the FlagValues that it is given.
        argv: the command line; None: the program's.
    """
    usage = sys.modules[main.__module__].__doc__ or ""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # the locale may lack letters that names of files have

    def parse_flags(argv):
        flags.FLAGS(argv[:1])  # absl wants its own flags parsed; ours live apart from them
        with _exit_codes():
            return parse(argv, define_flags, usage)

    def run_main(arguments):
        with _exit_codes():
            runtime.set_up()
            main(arguments)

    app.run(run_main, argv=argv, flags_parser=parse_flags)


def _says_disk_full(error: BaseException) -> bool:
    """Returns whether a full disk, or a full quota, is behind an error; Orbax tells it in words."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full):
        return True
    return error.__context__ is not None and _says_disk_full(error.__context__)


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with the networks that are finished", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone; nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_BROKEN_PIPE)
    except Exception as error:
        if not _says_disk_full(error):
            raise
        mend = "free room on it, and the same command goes on with the networks that are finished"
        print(f"error: the disk is full: {mend} ({_one_line(error)[:200]})", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def parse(argv: Sequence[str], define_flags: Callable[[flags.FlagValues], None], usage: str = "") -> Arguments:
    """Returns what the command line asks for.

    Raises:
        UserError: at the first mistake, naming it and the mend.
        SystemExit: with code 0, after printing the help text, for --help.
    """
    own_flags = flags.FlagValues()
    define_flags(own_flags)
    if any(argument in ("--help", "-help", "-h", "--helpfull") for argument in argv[1:]):
        print(usage.strip(), own_flags.main_module_help() or own_flags.get_help(), _FIELDS_HELP, sep="\n\n")
        sys.exit(0)
    config_path, override_arguments, own_arguments = _sort_arguments(argv[1:], own_flags)
    recipe, config = _load(config_path)
    _apply_overrides(config, override_arguments)
    config_lib.validate(config)
    config.lock()
    try:
        own_flags([argv[0], *own_arguments])
    except (flags.Error, ValueError) as error:
        raise UserError(_one_line(error)) from None
    return Arguments(config, recipe, own_flags.flag_values_dict())


_FIELDS_HELP = (
    "  --config=FILE[:WORD]: a row's config, such as configs/xray_rotnet.py or configs/xray_rotnet.py:smoke\n"
    "  --config.FIELD=VALUE: overrides a field, such as --config.distill.num_epochs=5; "
    "brittle_jax/config.py lists them"
)


def _sort_arguments(arguments: Sequence[str], own_flags: flags.FlagValues) -> tuple[str, list[str], list[str]]:
    """Splits the arguments into the config's path, overrides of its fields, and the command's own flags."""
    config_paths, overrides, own = [], [], []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        match = re.fullmatch(r"--?([^=]+)(?:=(.*))?", argument, flags=re.DOTALL)
        if match is None:
            raise UserError(f"{argument!r} is a stray argument: every setting is written --name=value")
        name, value = match.groups()
        is_config = name == "config" or name.startswith("config.")
        is_bool = not is_config and name in own_flags and own_flags[name].boolean
        is_negated = name.startswith("no") and name[2:] in own_flags and own_flags[name[2:]].boolean
        if not is_config and name not in own_flags and not is_negated:
            known = [f"--{flag}" for flag in ("config", *own_flags)]
            raise UserError(f"--{name} is not a flag of this command{config_lib.nearest(f'--{name}', known)}")
        if value is None and not is_bool and not is_negated:
            if not remaining or remaining[0].startswith("--"):
                raise UserError(f"--{name} has no value: write --{name}=VALUE")
            value = remaining.pop(0)
        if name == "config":
            config_paths.append(value)
        elif is_config:
            overrides.append(f"--{name}={value}")
        else:
            own.append(argument if value is None else f"--{name}={value}")
    if not config_paths:
        raise UserError("--config is missing: name a row, such as --config=configs/xray_rotnet.py:smoke")
    if len(config_paths) > 1:
        raise UserError(f"--config is given {len(config_paths)} times: give it once")
    return config_paths[0], overrides, own


def packaged_configs() -> pathlib.Path:
    """Returns the folder of the configs that come with the package."""
    package = pathlib.Path(__file__).parent
    # A wheel holds them inside the package, a checkout (or an editable install of one) beside it.
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _load(path_and_word: str) -> tuple[ml_collections.ConfigDict, ml_collections.ConfigDict]:
    """Returns the row's recipe, and its settings with the word applied."""
    path, colon, word = path_and_word.partition(":")
    rows = sorted(file.stem for file in packaged_configs().glob("*.py"))
    file = pathlib.Path(path)
    if not os.path.isfile(file):  # unlike Path.is_file, never raises
        # configs/ROW.py outside a checkout, or just ROW: the packaged one.
        named_like_packaged = path in rows or file.parent.as_posix() == "configs"
        packaged = packaged_configs() / f"{file.stem if file.suffix == '.py' else path}.py"
        if not (named_like_packaged and os.path.isfile(packaged)):
            hint = config_lib.nearest(file.stem, rows) or f" (there are {', '.join(rows)})"
            raise UserError(f"--config={path}: no such file{hint}")
        file = packaged
    try:
        get_config = _get_config_of(file)
        recipe = get_config(word if colon and word != "smoke" else None)
        config = get_config(word) if colon else recipe.copy_and_resolve_references()
        _check_fields(recipe)
        _check_fields(config)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the file is the user's own code
        raise UserError(f"--config={file}: cannot be loaded, {type(error).__name__}: {error}") from error
    return recipe, config


def _get_config_of(file: pathlib.Path) -> Callable[[str | None], ml_collections.ConfigDict]:
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    if spec is None:
        raise UserError(f"--config={file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config


def _check_fields(config: ml_collections.ConfigDict) -> None:
    """Raises where a config file's fields are not the base's, by name and type."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise TypeError(f"get_config returns a {type(config).__name__}, not a ConfigDict")
    base, fields = config_lib.flatten(config_lib.get_base_config()), config_lib.flatten(config)
    for name in fields:
        if name not in base:
            raise AttributeError(f"{name} is not a field{config_lib.nearest(name, list(base))}")
    for name, default in base.items():
        if name not in fields:
            raise AttributeError(f"{name} is missing: start from brittle_jax.config.get_base_config()")
        if type(fields[name]) is not type(default):
            raise TypeError(f"{name} is {fields[name]!r}, not a {type(default).__name__}")


def _apply_overrides(config: ml_collections.ConfigDict, arguments: list[str]) -> None:
    fields = config_lib.flatten(config)
    for argument in arguments:
        name, _, value = argument.removeprefix("--config.").partition("=")
        if name in _FIXED_FIELDS:
            raise UserError(f"--config.{name} cannot be set: it names the config file")
        if name not in fields:
            groups = sorted({field.rpartition(".")[0] for field in fields} - {""})
            if name in groups:
                raise UserError(f"--config.{name} is a group of fields: set one of them, --config.{name}.FIELD=...")
            hint = config_lib.nearest(name, list(fields)) or ", brittle_jax/config.py lists the fields"
            raise UserError(f"--config.{name} is not a field{hint}")
        overrides = flags.FlagValues()
        # The flag reads the list of overrides when it is defined, before it is parsed.
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
    """Returns `runs/ROW`, with a word `runs/ROW-WORD`."""
    return os.path.join("runs", f"{config.row}-{config.word}" if config.word else config.row)
