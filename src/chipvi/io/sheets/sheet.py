"""Sample sheets: which file holds what, checked line by line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from ... import _keys
from ..._messages import listed, unknown
from ..inputs import is_url

FILE, KIND, CONTROL, REPLICATE = "file", "kind", "control", "replicate"
ALIGNMENTS, FRAGMENTS, PVALUE, FOLD_CHANGE = "alignments", "fragments", "pvalue", "fold_change"
KINDS = (ALIGNMENTS, FRAGMENTS, PVALUE, FOLD_CHANGE)
COUNTED = (ALIGNMENTS, FRAGMENTS)
_REQUIRED = (_keys.BIOSAMPLE, _keys.ASSAY, FILE)
_COLUMNS = (*_REQUIRED, KIND, CONTROL, REPLICATE)
# Columns of var that are found out, not given.
_RESERVED = (_keys.DEPTH, _keys.IS_CONTROL, "signal_file", "fold_change_file", "n_records")

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
_KIND_BY_ENDING = (
    ((".bam", ".cram", ".sam", ".tagalign", ".tagalign.gz", ".bed", ".bed.gz"), ALIGNMENTS),
    (("fragments.tsv", "fragments.tsv.gz", "fragments.bed", "fragments.bed.gz"), FRAGMENTS),
)
_CONTROL_ASSAYS = ("control", "igg", "input", "mock", "wce")
_TRUE, _FALSE = ("1", "true", "yes", "y"), ("0", "false", "no", "n")


def read_sheet(path: str | Path) -> pd.DataFrame:
    """Read a sample sheet: a table that tells what each file holds.

    Parameters
    ----------
    path
        CSV or TSV with a row per file and a header. Lines that begin with ``#`` are skipped. Columns:

        - ``biosample``, ``assay``: what was measured in what.
        - ``file``: path, relative to the sheet's folder, or URL.
        - ``kind``: ``alignments`` (BAM, CRAM, tagAlign, BED of reads), ``fragments`` (BED or TSV of fragments),
          ``pvalue`` (bigWig of -log10 p) or ``fold_change`` (bigWig over control). May be empty where the file's ending
          tells; that of a bigWig does not.
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
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as a sample sheet: it is no text. Save it as CSV or TSV.") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and line[0] != "#"]
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
    kinds = [_kind(*cells) for cells in zip(sheet[KIND], sheet[FILE], strict=True)]
    controls = [_control(*cells) for cells in zip(sheet[CONTROL], sheet[_keys.ASSAY], strict=True)]
    files = [file if is_url(file) or not file else os.path.abspath(folder / file) for file in sheet[FILE]]
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
            advice = "mark controls in a column control" if name == _keys.IS_CONTROL else "it is found out"
            raise ValueError(f"{where} cannot have a column {name!r}: {advice}. Rename or remove the column.")


def _delimiter(header: str) -> str:
    return max("\t,;", key=header.count)  # a semicolon is what spreadsheets write where the comma marks decimals


def _kind(kind: str, file: str) -> tuple[str, str | None]:
    """Kind by the cell or else the file's ending, and what is wrong with it."""
    lower = file.lower()
    found = re.sub(r"[\s-]+", "_", kind.lower())
    found = _ALIASES.get(found, found)
    if not found:
        found = next((known for endings, known in reversed(_KIND_BY_ENDING) if lower.endswith(endings)), "")
        if not found:
            return "", f"has no kind, and the ending of {Path(file).name} does not tell; give {listed(KINDS)}"
        return found, None
    if found not in KINDS:
        advice = "; mark controls in the column control" if found == "control" else ""
        return "", f"has the unknown kind {kind!r}; there is {listed(KINDS)}{advice}"
    if lower.endswith(BIGWIG) == (found in COUNTED):
        return found, f"has kind {kind!r}, but {Path(file).name} is {'a' if found in COUNTED else 'no'} bigWig file"
    return found, None


def _control(cell: str, assay: str) -> tuple[bool, str | None]:
    if not cell:
        return assay.lower() in _CONTROL_ASSAYS, None
    if cell.lower() in _TRUE + _FALSE:
        return cell.lower() in _TRUE, None
    return False, f"has {cell!r} as control; give yes or no"


def _repeated(sheet: pd.DataFrame) -> Iterator[str]:
    """Files that stand for two experiments, or twice for one; only a control may serve several."""
    lines: dict[tuple[str, ...], object] = {}
    for line, row in sheet.iterrows():
        experiment = (row[_keys.BIOSAMPLE], row[_keys.ASSAY], row[REPLICATE]) if row[CONTROL] else ()
        key = (row[FILE], row[KIND], *experiment)
        if key in lines:
            yield f"line {line} names {Path(row[FILE]).name} again, as line {lines[key]} does"
        lines.setdefault(key, line)


def _refuse(faults: list[str], where: str) -> None:
    if faults:
        raise ValueError(f"{where}: {'; '.join(faults)}.")
