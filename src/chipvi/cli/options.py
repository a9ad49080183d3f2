"""The options of a command are the fields of a frozen dataclass, from which typer gets its signature.

Here are what makes the one of the other, and the options that several commands share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields
from inspect import Parameter, Signature
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from ..data.setup_keys import SetupKeys

Out: TypeAlias = Annotated[Path, typer.Option("--out", "-o", help="File to write, .h5ad or .zarr.", show_default=False)]
Genome: TypeAlias = Annotated[
    str | None,
    typer.Option(help="UCSC's name, as hg38 or mm10, or a file of chromosome sizes.", show_default=False),
]
Accelerator: TypeAlias = Annotated[str, typer.Option(help="Where to compute: auto, cpu, gpu, ...")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Check, print what would be done, and write nothing.")
]
Model: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Folder that chipvi train wrote.", show_default=False)
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Processes side by side; by default as many as there are cores and memory for.", min=1),
]
Scheduler: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Address of a dask cluster that works instead, tcp://...; see docs/cluster.md.", show_default=False
    ),
]
Shard: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Do part i of n only, as 2/4; run once more without it at the end.", metavar="I/N", show_default=False
    ),
]
Regions: TypeAlias = Annotated[
    str | None, typer.Option(help="chr1:1,001-2,000 as in a browser, or a BED file; by default all.")
]
Chromosomes: TypeAlias = Annotated[
    str | None, typer.Option(help="Instead of --regions: names or patterns by commas, chr21 or chr[0-9]+.")
]
Seed: TypeAlias = Annotated[int, typer.Option(help="The same seed gives the same model.", min=0)]

_TOO_LARGE = 10**18

KEY_HELP = {
    "layer": "Layer with counts; by default X.",
    "observed_layer": "Layer that is 0 where counts are missing.",
    "signal_layer": "Layer with arcsinh(-log10 p), to learn from as well.",
    "biosample_key": "Column of var with the biosample.",
    "assay_key": "Column of var with the assay.",
    "depth_key": "Column of var with reads per track; by default counts are added up.",
    "control_key": "Column of var that is true for controls.",
    "condition_key": "Column of var that replicates share, such as the cell type; helps denoising.",
    "segment_key": "Column of obs whose equal values mark neighbours; by default chrom, start, end.",
    "covariate_keys": "Columns of obs with numbers to learn from, by commas.",
}
"""What each of the setup keys is, by its name in SetupKeys."""


@dataclass(frozen=True)
class Given:
    """Marks a field that holds options of another dataclass: those that were given, by name.

    Parameters
    ----------
    of
        The dataclass, which has names, types and defaults.
    help
        Texts by name, if its fields are no options by themselves. Those without a text are left out, the others are
        texts on the command line, whatever their type.
    """

    of: type
    help: Mapping[str, str] | None = None

    def options(self) -> dict[str, tuple[Any, OptionInfo]]:
        """Type and option by name."""
        hints = get_type_hints(self.of, include_extras=True)
        found = {}
        for field in fields(self.of):
            if self.help is None:
                kind, option = get_args(hints[field.name])
            elif field.name in self.help:
                kind, option = str, typer.Option(help=self.help[field.name])
            else:
                continue
            option = copy(option)
            option.show_default = str(field.default) if field.default or type(field.default) is int else False
            found[field.name] = without_none(kind), option
        return found


Keys: TypeAlias = Annotated[Mapping[str, str], Given(SetupKeys, KEY_HELP)]

Options = TypeVar("Options")


def takes_options(run: Callable[[Options], None]) -> Callable[..., None]:
    """What typer is to call in place of `run`: with a parameter for each option of the dataclass that `run` takes.

    Parameters
    ----------
    run
        A command. Its docstring is its help; its only parameter is annotated with a dataclass, whose fields are options
        of typer, or marked as :class:`Given`.
    """
    (kind,) = (hint for name, hint in get_type_hints(run).items() if name != "return")
    hints = get_type_hints(kind, include_extras=True)
    groups: dict[str, list[str]] = {}
    parameters: list[Parameter] = []
    for field in fields(kind):
        mark = get_args(hints[field.name])[1]
        if isinstance(mark, Given):
            added = list(_given_parameters(mark))
            groups[field.name] = [parameter.name for parameter in added]
            parameters += added
        else:
            parameters.append(_parameter(field, *get_args(hints[field.name])))

    def call(**values: Any) -> None:
        for group, names in groups.items():
            given = {name: values.pop(name) for name in names}
            values[group] = {name: value for name, value in given.items() if value is not None}
        run(kind(**values))

    call.__doc__, call.__annotations__ = run.__doc__, {one.name: one.annotation for one in parameters}
    call.__dict__["__signature__"] = Signature(parameters)
    return call


def require_usable(name: str, value: object) -> None:
    """Refuse numbers that no calculation can hold: infinite ones, NaN, and whole numbers beyond 64 bits.

    Raises
    ------
    ValueError
        With the name.
    """
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number, got {number}.")
        if isinstance(number, int) and abs(number) >= _TOO_LARGE:
            raise ValueError(f"{name} must be a whole number of at most 18 digits, got {number}.")


def require_folder(path: Path) -> None:
    """Refuse what is no folder and cannot become one.

    Raises
    ------
    FileExistsError
        If a file is in its place, or in the place of a folder above it.
    """
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise FileExistsError(f"{place} is a file, where a folder is wanted. Name another place to write to.")


def without_none(kind: Any) -> Any:
    """The type of a value that is there.

    >>> without_none(int | None)
    <class 'int'>
    """
    kinds = [one for one in get_args(kind) if one is not NoneType]
    return kinds[0] if NoneType in get_args(kind) else kind


def _given_parameters(group: Given) -> Iterator[Parameter]:
    for name, (kind, option) in group.options().items():
        yield Parameter(
            name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, _checked(kind, option)]
        )


def _parameter(field: Field, kind: Any, option: OptionInfo | ArgumentInfo) -> Parameter:
    default = Parameter.empty if field.default is MISSING else field.default
    annotation = Annotated[kind, _checked(without_none(kind), option)]
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _checked(kind: Any, option: OptionInfo | ArgumentInfo) -> OptionInfo | ArgumentInfo:
    """The option, such that it refuses numbers of no use, and empty texts: rather a variable of the shell not set."""
    option = copy(option)
    if kind in (str, Path):

        def parse(value: object) -> Any:
            if value == "":
                raise typer.BadParameter("it must not be empty.")
            return kind(value)

        parse.__name__ = kind.__name__  # some versions of typer show it in the help
        option.parser = parse
    elif kind is not bool:
        option.callback = _require_usable
    return option


def _require_usable(value: object) -> object:
    try:
        require_usable("it", value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return value
