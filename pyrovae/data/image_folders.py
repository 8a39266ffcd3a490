"""A folder of image files as points: grey or in colour, with labels where it has folders of its own."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..errors import InvalidInputError
from .file_contents import halves_of
from .raw import RawData, given_split, random_split

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def load_image_folder(folder: Path, generator: torch.Generator, split: bool) -> RawData:
    """All images below a folder, in the order of their paths; bytes of grey, or of red, green and blue.

    Folders `train` and `test` are the split. The folder that an image lies in is its label, where there are several.
    Raises `InvalidInputError` for a folder without images, and for an image of another size, by its name.
    """
    halves = halves_of(folder)
    groups = [_files(half) for half in halves or [folder]]
    paths = [path for group in groups for path in group]
    if not all(groups):
        raise InvalidInputError(f"{folder} has no image files: it takes {', '.join(IMAGE_SUFFIXES)}.")
    pixels = torch.from_numpy(_pixels(paths))
    if halves:
        chosen = given_split(len(groups[0]), len(groups[1]), "the folder's")
    elif not split:
        every = torch.arange(len(paths))
        chosen = every, every, f"all {len(paths)} images of the folder"
    else:
        chosen = random_split(len(paths), generator)
    tops = halves or [folder]
    labels = [_label(path, tops) for path in paths]
    names = tuple(sorted(set(labels)))
    return RawData(
        pixels.flatten(1),
        *chosen,
        levels=256,
        shape=tuple(pixels.shape[1:]),
        labels=torch.tensor([names.index(label) for label in labels]) if len(names) > 1 else None,
        label_names=names if len(names) > 1 else (),
    )


def has_images(folder: Path) -> bool:
    """Whether there are image files below a folder."""
    return any(_is_image(path) for path in folder.rglob("*"))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_image(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _label(path: Path, tops: Iterable[Path]) -> str:
    """The first folder below the one that was named."""
    top = next(top for top in tops if path.is_relative_to(top))
    return path.relative_to(top).parts[0] if len(path.relative_to(top).parts) > 1 else ""


def _pixels(paths: list[Path]) -> np.ndarray:
    """(N, height, width), or (N, height, width, 3) where an image has colours."""
    from PIL import Image

    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.mode in ("I", "I;16", "F"):
                    raise InvalidInputError(f"{path} has more than 256 levels: save images of 8 bits.")
                grey = image.mode in ("1", "L", "LA")
                images.append(np.asarray(image.convert("L" if grey else "RGB")))
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read as an image: replace or remove it.") from error
        if images[-1].shape[:2] != images[0].shape[:2]:
            first, other = (f"{each.shape[1]} × {each.shape[0]}" for each in (images[0], images[-1]))
            raise InvalidInputError(f"{path} is {other} pixels and {paths[0]} {first}: give all images one size.")
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    return np.stack(images)
