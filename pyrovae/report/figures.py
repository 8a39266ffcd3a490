"""Pictures inside of the page: as data, with a text for those who cannot see them."""

import base64
import io
from typing import Any

import matplotlib
from PIL import Image

from .contents import PageFigure
from .markup import text

DOTS_PER_INCH = 100
COLOURS = 256  # of a picture of pixels


def embed(picture: PageFigure) -> str:
    """A figure element that holds the picture itself."""
    kind = "svg" if picture.vector else "png"
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": picture.title}):  # the same page again, byte for byte
        dated: dict[str, Any] = {"Date": None} if picture.vector else {}
        picture.figure.savefig(
            file, format=kind, dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.08, metadata=dated
        )
    if not picture.vector:
        file = _with_few_colours(file)
    mime = "image/svg+xml" if picture.vector else "image/png"
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><h3>{text(picture.title)}</h3><img src="data:{mime};base64,{data}" alt="{text(picture.alt)}">'
        f"<figcaption>{text(picture.caption)}</figcaption></figure>"
    )


def _with_few_colours(file: io.BytesIO) -> io.BytesIO:
    """The same picture with a palette: a third of the size."""
    small = io.BytesIO()
    Image.open(file).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return small
