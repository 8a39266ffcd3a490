"""Let a folder's namespace offer what its files define, so that a new file needs no entry in a list."""

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any


def collect(namespace: dict[str, Any], *, classes: bool = True) -> list[str]:
    """Import a folder's files, add their public names to its namespace, and return the names that are new.

    A file's public names are those of its `__all__`. Without one they are the classes that it defines, if `classes` is true.
    `namespace` is the `globals()` of the folder's `__init__`. Raises `ImportError` if two files offer one name.
    """
    known, added = set(namespace["__all__"]), []
    for info in pkgutil.iter_modules(namespace["__path__"]):
        file = import_module(f"{namespace['__name__']}.{info.name}")
        for name in getattr(file, "__all__", _classes(file) if classes else ()):
            value = getattr(file, name)
            if name in known and namespace[name] is not value:
                raise ImportError(f"{file.__name__} defines {name}, and so does another file: give it another name.")
            if name not in known:
                namespace[name] = value
                known.add(name)
                added.append(name)
    return added


def _classes(file: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(file).items()
        if isinstance(value, type) and value.__module__ == file.__name__ and not name.startswith("_")
    ]
