"""pyrovae new: a file to begin a model or a guide with."""

import keyword
from pathlib import Path
from typing import Annotated

import typer

from ...errors import InvalidInputError
from ..output import check_writable, write_text
from ..skeletons import GUIDE, MODEL

SKELETONS = {"model": MODEL, "guide": GUIDE}


def new_command(
    file: Annotated[Path, typer.Argument(help="The file to write, such as my_model.py or my_guide.py.")],
    kind: Annotated[
        str | None, typer.Option(help="model or guide [default: guide if the file's name says so, else model].")
    ] = None,
) -> None:
    """Write a working model or guide to start from, as a Python file."""
    kind = kind or ("guide" if "guide" in file.stem.lower() else "model")
    if kind not in SKELETONS:
        raise InvalidInputError(f"There is no kind '{kind}': give model or guide.")
    if file.suffix != ".py":
        raise InvalidInputError(f"{file} is not a Python file: end its name in .py.")
    name = class_name(file)
    check_writable(file)
    if file.exists():
        raise InvalidInputError(f"{file} exists already: choose another name.")
    write_text(file, SKELETONS[kind].replace("NAME", name))
    print(f"{file}: a {kind} that works. Change it, then try:\n")
    if kind == "model":
        print(f"  pyrovae train {file} --out runs/{file.stem}\n  pyrovae compare --models ppca,{file}\n")
        print(
            "The columns of a table have units of their own. A model that starts near N(0, 1) needs them standardised:\n"
        )
        print(f"  pyrovae train {file} --data iris --transform standardise --out runs/{file.stem}-iris")
    else:
        print(f"  pyrovae train vae --set guide={file}:{name} --out runs/{file.stem}")


def class_name(file: Path) -> str:
    """Return the name of the class in a file: MyVae for my_vae.py."""
    name = "".join(word[:1].upper() + word[1:] for word in file.stem.replace("-", "_").split("_"))
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidInputError(
            f"No class can be named after {file}: use letters, digits and _, beginning with a letter."
        )
    return name
