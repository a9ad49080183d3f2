"""Sphinx configuration of the site; `make docs` builds it. Its pages are files of the repository, where they lie."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator
from typer.main import get_command

from chipvi.cli.app import app as cli

ROOT = Path(__file__).resolve().parents[1]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]

project = "chipvi"
author = copyright = "chipvi developers"
release = importlib.metadata.version(project)
version = release.partition("+")[0]

# The source folder is the repository, so that one link leads to a page here and where files are browsed.
root_doc = "docs/site/index"
include_patterns = ["*.md", "benchmarks/*.md", "docs/**.md", "docs/site/generated/*.rst", "tutorials/*.ipynb"]
exclude_patterns = [".*", "build", "src", "tests"]
templates_path = [str(ROOT / "docs" / "_templates")]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
smartquotes = False  # options begin with two hyphens
nb_execution_mode = "off"  # the notebooks hold their outputs, which `make tutorials` writes

default_role = "py:obj"  # a name in single backticks is a link where it is known, else code
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_custom_sections = ["Returns"]  # ours are prose
maximum_signature_line_length = 88

# Of each library a few names, in files here: nothing is asked for while the site is built.
intersphinx_mapping = {
    name: (url, str(ROOT / "docs" / "inventories" / f"{name}.inv"))
    for name, url in {
        "anndata": "https://anndata.readthedocs.io/en/stable/",
        "matplotlib": "https://matplotlib.org/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "pandas": "https://pandas.pydata.org/docs/",
        "python": "https://docs.python.org/3/",
        "scanpy": "https://scanpy.readthedocs.io/en/stable/",
        "scvi-tools": "https://docs.scvi-tools.org/en/stable/",
        "torch": "https://docs.pytorch.org/docs/stable/",
    }.items()
}

html_theme = "sphinx_book_theme"
html_title = f"chipvi {version}"
html_theme_options = {
    "repository_url": URLS["Source"],
    "use_repository_button": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
html_math_renderer = "mathml"


def link_to_repository(app: Sphinx, page: str, text: list[str]) -> None:
    """Have links to folders and scripts, which are no pages, lead to the repository."""
    here = Path(app.env.doc2path(page)).parent

    def lead(link: re.Match[str]) -> str:
        target = (here / link[1]).resolve()
        kind = "tree" if target.is_dir() else "blob"
        is_page = target.suffix in {".ipynb", ".md", ".png", ".svg"} or not target.is_relative_to(ROOT)
        known = target.exists() and not is_page
        return f"]({URLS['Source']}/{kind}/main/{target.relative_to(ROOT).as_posix()})" if known else link[0]

    text[0] = re.sub(r"\]\((?!https?:|#)([^)\s#]+)\)", lead, text[0])


def list_commands(app: Sphinx, page: str, text: list[str]) -> None:
    """Write the arguments and options of every command where its page says so."""
    if page != "docs/site/commands":
        return
    for name, command in get_command(cli).commands.items():
        text[0] += f"\n## chipvi {name}\n\n{command.help}\n\n| | |\n|---|---|\n"
        for option in sorted(command.params, key=lambda one: one.param_type_name):  # arguments first
            names = (
                ", ".join(f"`{flag}`" for flag in option.opts) if option.param_type_name == "option" else option.name
            )
            text[0] += (
                f"| {names} | {' '.join((getattr(option, 'help', None) or '').split()).replace('|', chr(92) + '|')} |\n"
            )


def keep_ours(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a class inherits from scvi-tools, torch or Python."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    home = getattr(function, "__module__", None) or ""
    return True if what == "class" and not home.startswith("chipvi.") else None


def visit_math(self: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw by themselves; brackets in it grow without being told to."""
    is_block = isinstance(node, nodes.math_block)
    formula = tex2mathml(re.sub(r"\\[bB]igg?[lr]?(?![a-zA-Z])", "", node.astext()), as_block=is_block)
    self.body.append(f'<div class="formula">{formula}</div>' if is_block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", list_commands)
    app.connect("source-read", link_to_repository)
    app.connect("autodoc-skip-member", keep_ours)
    app.add_html_math_renderer("mathml", inline_renderers=(visit_math, None), block_renderers=(visit_math, None))
