"""``python -m chipvi``."""

from .cli.app import app

app(prog_name="chipvi")
