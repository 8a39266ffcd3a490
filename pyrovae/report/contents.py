"""What a page is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..evaluation.comparison import Comparison
from ..exploration import Reconstruction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PageFigure:
    """A picture with what is said of it."""

    title: str
    alt: str  # what there is to see, for those who cannot see it
    caption: str  # what it means, in a sentence
    figure: "Figure"
    vector: bool = True  # curves and few points; False: a picture of pixels
    model: str = ""  # whose it is; "" for a picture of all


@dataclass(frozen=True)
class Settings:
    """How one model was made: every option with its value, those that were not given among them."""

    summary: str  # name and equation
    options: Mapping[str, str]
    training: Mapping[str, str]
    given: frozenset[str] = frozenset()  # the options and arguments that are not defaults


@dataclass(frozen=True)
class Contents:
    """All that the page shows.

    Args:
        comparison: The evidence of each model.
        metadata: Data, split, transform, versions, as the table's last line has them.
        settings: How each model was made, by its name.
        reconstructions: Of the models, where one of them has no log p(x); else empty.
        without_density: Why some models have no log p(x), by name.
        figures: The pictures in their order.
        explorers: What the page's script needs to show each latent space, as `explorer.pack` returns it.
        excluded: Why some models were left out, by name.
        per: What a mean over the numbers of one x is per, "pixel" or "column".
    """

    comparison: Comparison
    metadata: Mapping[str, Any]
    settings: Mapping[str, Settings]
    reconstructions: Mapping[str, Reconstruction] = field(default_factory=dict)
    without_density: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[PageFigure] = ()
    explorers: Sequence[Mapping[str, Any]] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    per: str = "pixel"
