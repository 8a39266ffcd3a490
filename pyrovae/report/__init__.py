"""One HTML file that shows a comparison: tables, figures, verdicts, and the latent spaces to move through.

`page.render` makes the text of the file from `contents.Contents`. `tables` writes what was asked and what was found. `figures` embeds
pictures. `explorer` packs decoders and points for the script of the page. `glossary` explains the terms. `assets` has the style
and the scripts. The file loads nothing: its content security policy forbids every request.
"""

from .contents import Contents, PageFigure, Settings
from .page import render

__all__ = ["Contents", "PageFigure", "Settings", "render"]
