"""The page itself: one file, with all that it shows inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from .._files import written_whole
from .._messages import counted

_WIDTH = 110  # pixels of the page to an inch of a figure
_NARROW = 4.4  # inches: what is written is read at the width of a phone
_DPI = 2 * _WIDTH  # so that figures are sharp on screens of two pixels to one


@dataclass(frozen=True)
class Picture:
    """A picture, and a narrow one of it for phones, as text; what they show, for those who cannot see and below it.

    Parameters
    ----------
    source, narrow
        Addresses that hold the pictures.
    alt, caption
        What they show.
    width
        Of the wide one, in pixels.
    """

    source: str
    narrow: str
    alt: str
    caption: str
    width: int

    @classmethod
    def of(
        cls,
        draw: Callable[[tuple[float, float] | None], Figure],
        narrow_height: Callable[[Figure], float],
        alt: str,
        caption: str = "",
    ) -> Picture:
        """Draw it twice: in its own size, and as wide as a phone and as high as `narrow_height` says, in inches."""
        wide = draw(None)
        narrow = draw((_NARROW, narrow_height(wide)))
        return cls(_address(wide), _address(narrow), alt, caption, round(wide.get_figwidth() * _WIDTH))


def _address(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def render(content: Mapping[str, Any]) -> str:
    """Fill the template; names out of the data are escaped."""
    environment = Environment(
        loader=PackageLoader("chipvi.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "counted": counted}
    return environment.get_template("page.html.j2").render(content)


def _number(value: float, form: str = ".2f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value != value else format(value, form).replace("-", "−")


def write_whole(text: str, path: Path) -> Path:
    """Write a text so that the file appears only once it is whole."""
    with written_whole(path) as partial:
        partial.write_text(text, "utf-8")
    return path
