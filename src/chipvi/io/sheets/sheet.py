"""Sample sheets: which file holds what, checked line by line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from ... import _keys
from ..._arguments import checked
from ..._messages import listed, unknown
from ..counting.alignments import SUFFIXES
from ..counting.formats import ALIGNMENTS, FRAGMENTS, READS, file_ending, find_source, is_named_fragments
from ..inputs import is_url
from ..text import read_lines

FILE, KIND, CONTROL, REPLICATE = "file", "kind", "control", "replicate"
PVALUE, FOLD_CHANGE = "pvalue", "fold_change"
KINDS = (ALIGNMENTS, FRAGMENTS, PVALUE, FOLD_CHANGE)
COUNTED = (ALIGNMENTS, FRAGMENTS)
_REQUIRED = (_keys.BIOSAMPLE, _keys.ASSAY, FILE)
_COLUMNS = (*_REQUIRED, KIND, CONTROL, REPLICATE)
# Columns of var that are measured, not given.
_RESERVED = (_keys.DEPTH, _keys.IS_CONTROL, "signal_file", "fold_change_file", "format", "n_records")

# How ENCODE and others call these kinds, in lower case and with underscores.
_ALIASES = {
    "alignment": ALIGNMENTS,
    "counts": ALIGNMENTS,
    "reads": ALIGNMENTS,
    "unfiltered_alignments": ALIGNMENTS,
    "fragment": FRAGMENTS,
    "p_value": PVALUE,
    "signal_p_value": PVALUE,
    "fold_change_over_control": FOLD_CHANGE,
}
BIGWIG = (".bw", ".bigwig")
_BY_CONTENT = (".bed", ".bedpe")
_CONTROL_ASSAYS = ("control", "igg", "input", "mock", "wce")
_TRUE, _FALSE = ("1", "true", "yes", "y"), ("0", "false", "no", "n")


@checked
def read_sheet(path: str | Path) -> pd.DataFrame:
    """Read a sample sheet: a table of what each file holds.

    Parameters
    ----------
    path
        CSV or TSV with a row per file and a header. Lines that begin with ``#`` are skipped. Columns:

        - ``biosample``, ``assay``: what was measured in what.
        - ``file``: path, relative to the sheet's folder, or URL.
        - ``kind``: ``alignments`` (BAM, CRAM, tagAlign, BED of reads), ``fragments`` (BED, BEDPE or TSV of fragments),
          ``pvalue`` (bigWig of -log10 p) or ``fold_change`` (bigWig over control). May be empty for BAM, CRAM, SAM
          and tagAlign files, texts with ``fragments`` in their name, and other BED files, whose first line decides.
        - ``control``: yes or no. If empty, an assay called Input, WCE, IgG, mock or control is one.
        - ``replicate``: number or name, where an experiment was repeated.

        Other columns are free covariates.

    Returns
    -------
    A row per file with the columns above, then the covariates as text. ``file`` is absolute, ``control`` is bool,
    ``replicate`` is "" where there is none. The index, ``line``, is the line of the sheet.

    Raises
    ------
    ValueError
        If there is no such sheet, or anything in it is wrong; the message names every fault with its line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no sample sheet {path}.")
    numbered = list(read_lines(path, "a sample sheet, CSV or TSV"))
    if len(numbered) < 2:
        raise ValueError(f"{path.name} must hold a header and a line per file; it holds {len(numbered)} lines.")
    numbers, texts = zip(*numbered, strict=True)
    cells = list(csv.reader(texts, delimiter=_delimiter(texts[0]), skipinitialspace=True))
    header = [name.strip().lower() for name in cells[0]]
    _require_columns(header, path.name)
    faults = [
        f"line {number} has {len(row)} cells, the header has {len(header)}"
        for number, row in zip(numbers[1:], cells[1:], strict=True)
        if len(row) != len(header)
    ]
    _refuse(faults, path.name)
    index = pd.Index(numbers[1:], name="line")
    table = pd.DataFrame([[cell.strip() for cell in row] for row in cells[1:]], columns=header, index=index)
    return _checked(table, path.name, path.parent)


def check_sheet(sheet: pd.DataFrame) -> pd.DataFrame:
    """Check a sample sheet that is a table: as :func:`read_sheet`, with paths relative to the current folder."""
    table = sheet.rename(columns=lambda name: str(name).strip().lower())
    _require_columns(list(table.columns), "the sample sheet")
    table = table.astype(object).where(table.notna(), "").map(lambda value: str(value).strip())
    return _checked(table.rename_axis("line"), "the sample sheet", Path.cwd())


def _checked(table: pd.DataFrame, where: str, folder: Path) -> pd.DataFrame:
    sheet = pd.DataFrame(index=table.index)
    for name in _COLUMNS:
        sheet[name] = table[name] if name in table else ""
    files = [file if is_url(file) or not file else os.path.abspath(folder / file) for file in sheet[FILE]]
    kinds = [_kind(*cells) for cells in zip(sheet[KIND], files, strict=True)]
    controls = [_control(*cells) for cells in zip(sheet[CONTROL], sheet[_keys.ASSAY], strict=True)]
    faults = []
    for row, line in enumerate(sheet.index):
        empty = [name for name in _REQUIRED if not sheet[name].iloc[row]]
        if empty:
            faults.append(f"line {line} has no {' and no '.join(empty)}")
            continue
        faults += [f"line {line} {fault}" for fault in (kinds[row][1], controls[row][1]) if fault]
        if is_url(files[row]) and kinds[row][0] in COUNTED:
            faults.append(f"line {line} names a URL, but only bigWig files are read from one; download the file")
        elif not is_url(files[row]) and not os.path.isfile(files[row]):
            faults.append(f"line {line} names {sheet[FILE].iloc[row]}, but there is no {files[row]}")
    _refuse(faults, where)
    sheet[FILE], sheet[KIND], sheet[CONTROL] = files, [kind for kind, _ in kinds], [flag for flag, _ in controls]
    _refuse(list(_repeated(sheet)), where)
    for name in table.columns:
        if name not in _COLUMNS:
            sheet[name] = table[name]
    return sheet


def _require_columns(header: Sequence[str], where: str) -> None:
    for name in _REQUIRED:
        if name not in header:
            raise ValueError(unknown("column", name, header, where))
    repeated = pd.Index(header).duplicated()
    if repeated.any():
        raise ValueError(f"{where} must name each column once; {header[int(repeated.argmax())]!r} comes back.")
    if "" in header:
        raise ValueError(f"{where} must name each column; column {header.index('') + 1} has no name.")
    for name in _RESERVED:
        if name in header:
            advice = "mark controls in a column control" if name == _keys.IS_CONTROL else "it is measured"
            raise ValueError(f"{where} cannot have a column {name!r}: {advice}. Rename or remove the column.")


def _delimiter(header: str) -> str:
    return max("\t,;", key=header.count)  # a semicolon is what spreadsheets write where the comma marks decimals


def _kind(kind: str, file: str) -> tuple[str, str | None]:
    """Kind by the cell or else the file's ending, and what is wrong with it."""
    lower = file.lower()
    found = re.sub(r"[\s-]+", "_", kind.lower())
    found = _ALIASES.get(found, found)
    if not found:
        return _kind_of_file(file)
    if found not in KINDS:
        advice = "; mark controls in the column control" if found == "control" else ""
        return "", f"has the unknown kind {kind!r}; there is {listed(KINDS)}{advice}"
    if lower.endswith(BIGWIG) == (found in COUNTED):
        return found, f"has kind {kind!r}, but {Path(file).name} is {'a' if found in COUNTED else 'no'} bigWig file"
    return found, None


def _kind_of_file(file: str) -> tuple[str, str | None]:
    """Kind of a file by its name or its content, and why it has none."""
    path = Path(file)
    ending = file_ending(path)
    if is_named_fragments(path):
        return FRAGMENTS, None
    if ending in (*SUFFIXES, ".tagalign"):
        return ALIGNMENTS, None
    if ending not in _BY_CONTENT:
        return "", f"has no kind, and the ending of {path.name} does not show it; give {listed(KINDS)}"
    if not path.is_file():
        return ALIGNMENTS, None  # that it is not there is reported as such
    try:
        return ALIGNMENTS if find_source(path).text == READS else FRAGMENTS, None
    except ValueError as error:
        return "", f"has no kind, and the content of the file does not show it: {str(error).rstrip('.')}"


def _control(cell: str, assay: str) -> tuple[bool, str | None]:
    if not cell:
        return assay.lower() in _CONTROL_ASSAYS, None
    if cell.lower() in _TRUE + _FALSE:
        return cell.lower() in _TRUE, None
    return False, f"has {cell!r} as control; give yes or no"


def _repeated(sheet: pd.DataFrame) -> Iterator[str]:
    """Files that stand for two experiments, or twice for one; only a control may serve several."""
    lines: dict[tuple[object, ...], object] = {}
    for line, row in sheet.iterrows():
        experiment = (row[_keys.BIOSAMPLE], row[_keys.ASSAY], row[REPLICATE]) if row[CONTROL] else ()
        key = (row[FILE], COUNTED if row[KIND] in COUNTED else row[KIND], *experiment)
        if key in lines:
            yield f"line {line} names {Path(row[FILE]).name} again, as line {lines[key]} does"
        lines.setdefault(key, line)


def _refuse(faults: list[str], where: str) -> None:
    if faults:
        raise ValueError(f"{where}: {'; '.join(faults)}.")
