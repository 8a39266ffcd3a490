"""A run's folder: made anew without losing an earlier one, and opened again."""

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..loading.pairs import PairBuilder, load
from ..loading.user_files import absolute, copy_for_run
from ..utils.files import replacing
from .config import FORMAT, Config


def read_run(folder: Path) -> tuple[Config, PairBuilder]:
    """What the folder says of itself. Raises `InvalidInputError` where it is no run, or a damaged one."""
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidInputError(
            f"{folder} is not a run: it has no config.json; name a folder that `pyrovae train --out` wrote."
        )
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.get("command") == "compare":
            runs = ", ".join(str(folder / Path(name).name.removesuffix(".py")) for name in content["models"])
            raise InvalidInputError(f"{folder} is a comparison: name one of its runs, {runs}.")
        if isinstance(content, dict) and content.get("command") == "choose":
            raise InvalidInputError(
                f"{folder} is the table of a choice: name a folder that `pyrovae train --out` wrote."
            )
        check_format(path, content)
        config = Config(**{key: value for key, value in content.items() if key != "format"})
        config.check()
    except InvalidInputError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInputError(f"{path} is damaged, or of another version of pyrovae: {error}.") from error
    config = replace(config, options=[absolute(option, folder) for option in config.options])
    return config, load(folder / "model.py" if config.user_file else config.model)


def check_format(path: Path, content: dict[str, Any]) -> None:
    """Raise `InvalidInputError` for a run of another format than this version's: format 1 had no key for it, but a key `fit`."""
    number = 1 if "format" not in content and "fit" in content else content["format"]
    if number != FORMAT:
        raise InvalidInputError(
            f"{path.parent} is a run of format {number!r:.20}, and this version of pyrovae reads format {FORMAT}: train it "
            "again, or use the version that wrote it."
        )


def write_config(config: Config, files: dict[str, bytes], folder: Path) -> None:
    """Make the folder, with the copies of the user's own files and a config.json that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with replacing(folder / name) as file:
            file.write_bytes(content)
    options = [own[0] if (own := copy_for_run(option)) else option for option in config.options]
    with replacing(folder / "config.json") as file:
        file.write_text(json.dumps({"format": FORMAT, **asdict(config), "options": options}, indent=2) + "\n")


@contextlib.contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[None]:
    """`out`, made for what is written inside the context.

    An existing folder is refused unless `overwrite`, and then only if pyrovae wrote it: runs are never mixed. The earlier one
    stands aside until the new one is complete. If that never happens, the earlier one comes back. Checkpoints of the
    new one are kept beside it, and a note on the error says where.
    """
    if not out.exists():
        out.mkdir(parents=True)
        yield
        return
    if not overwrite:
        raise InvalidInputError(f"{out} exists: name another folder, or say --overwrite to replace it.")
    if not _is_ours(out):
        raise InvalidInputError(f"{out} is not a run of pyrovae, and is left as it is: name another folder.")
    place = out.resolve()  # of a link, what it points to
    if place == Path.cwd() or place in Path.cwd().parents:
        raise InvalidInputError(f"{out} is the folder you are in, or holds it: leave it first.")
    aside = _free(place, "earlier")
    place.rename(aside)
    try:
        place.mkdir()
        yield
    except BaseException as error:
        if any(place.rglob("checkpoint.pt")):
            stop_reason = _free(place, "stopped")
            place.rename(stop_reason)
            error.add_note(f"The earlier run is back in {out}; what there is of the new one is in {stop_reason}.")
        else:
            shutil.rmtree(place, ignore_errors=True)
            error.add_note(f"The earlier run is back in {out}.")
        aside.rename(place)
        raise
    shutil.rmtree(aside)


def _free(place: Path, word: str) -> Path:
    """A name beside `place` that nothing has."""
    names = (place.with_name(f"{place.name}.{word}{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def _is_ours(folder: Path) -> bool:
    """Empty, or with a config.json that says pyrovae wrote it: others have files of that name too."""
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return "pyrovae" in json.loads((folder / "config.json").read_text())["versions"]
    except (OSError, ValueError, TypeError, KeyError):
        return False
