"""A user's own Python files: run as modules, and their classes named in options, `guide=own_guide.py:HeavyTails`."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from ..errors import InvalidInputError

# folders have any characters in their names, so the file ends at the last `.py:` that a class's name follows
_NAMED = re.compile(r"(?P<file>.+\.py):(?P<called>[A-Za-z_]\w*(\(.*\))?)", re.DOTALL)


def module_of(path: Path) -> ModuleType:
    """The module that a file is: loading runs it. Raises `InvalidInputError` where there is no such file, or it cannot be run."""
    if not path.is_file():
        raise InvalidInputError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"pyrovae_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidInputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def parse_file_class(text: str) -> tuple[Path, str] | None:
    """File and class of a text `file.py:Name`, or `file.py:Name(3)`; None for any other text."""
    match = _NAMED.fullmatch(text.strip())
    return None if match is None else (Path(match["file"]), match["called"])


def absolute(option: str, folder: Path) -> str:
    """The option `name=file.py:Name` with the file's absolute path, where that was relative to `folder`; others as they are."""
    name, _, value = option.partition("=")
    own = parse_file_class(value)
    return option if own is None else f"{name.strip()}={(folder / own[0]).resolve()}:{own[1]}"


def label(option: str) -> str:
    """The option as a label has it: of a file its name alone, without the folders."""
    name, _, value = option.partition("=")
    own = parse_file_class(value)
    return option if own is None else f"{name}={own[0].name}:{own[1]}"


def copy_for_run(option: str) -> tuple[str, str, Path] | None:
    """Return what the folder of a run keeps of an option that names a file, `guide=…/mine.py:Name`; None for any other.

    It is the option in terms of the copy, `guide=option_guide.py:Name`, the name of the copy, and the file to be
    copied.
    """
    name, _, value = option.partition("=")
    own, copy = parse_file_class(value), f"option_{name.strip()}.py"
    return None if own is None else (f"{name.strip()}={copy}:{own[1]}", copy, own[0])
