"""``python -m chipvi``."""

from .cli import app

app(prog_name="chipvi")
