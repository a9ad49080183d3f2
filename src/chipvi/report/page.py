"""The page itself: one file, pictures inside, that needs no script and nothing from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from .._files import written_whole
from .._messages import counted

_WIDTH = 110  # pixels of the page to an inch of a figure
_DPI = 2 * _WIDTH  # so that figures are sharp on screens of two pixels to one


@dataclass(frozen=True)
class Picture:
    """A picture as text, what it shows, for those who cannot see it and for below it, and its width in pixels."""

    source: str
    alt: str
    caption: str
    width: int

    @classmethod
    def of(cls, figure: Figure, alt: str, caption: str = "") -> Picture:
        """Take a figure."""
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI)
        width = round(figure.get_figwidth() * _WIDTH)
        return cls(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", alt, caption, width)


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
