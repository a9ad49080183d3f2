"""Which tracks a sample sheet asks for, and which files each comes from."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ... import _keys
from ..._messages import and_more, listed
from .sheet import CONTROL, COUNTED, FILE, FOLD_CHANGE, KIND, PVALUE, REPLICATE

_KNOWN = (_keys.BIOSAMPLE, _keys.ASSAY, FILE, KIND, CONTROL, REPLICATE)


@dataclass(frozen=True)
class Track:
    """One column of the result, and the files that it comes from.

    Parameters
    ----------
    biosample, assay, is_control
        What was measured; the replicate, where kept apart, is part of the biosample.
    counted
        Files of reads or fragments, to be added up, each with its kind; may be none.
    pvalue, fold_change
        bigWig files, if there are.
    covariates
        Further columns of the sheet that are the same in all lines of the track.
    """

    biosample: str
    assay: str
    is_control: bool
    counted: dict[str, str]
    pvalue: str | None
    fold_change: str | None
    covariates: dict[str, str]

    @property
    def name(self) -> str:
        """Biosample and assay."""
        return f"{self.biosample}.{self.assay}"

    @property
    def files(self) -> tuple[str, ...]:
        """All files."""
        return (*self.counted, *(file for file in (self.pvalue, self.fold_change) if file))


def plan_tracks(sheet: pd.DataFrame, merge_replicates: bool = False) -> list[Track]:
    """Tracks that a sheet asks for, in the order of its lines.

    Parameters
    ----------
    sheet
        As :func:`read_sheet` returns it.
    merge_replicates
        Add up the counts of all lines with one biosample and assay. Otherwise each replicate is a biosample of its own,
        such as ``K562_rep1``, in every biosample that has more than one.

    Raises
    ------
    ValueError
        If lines contradict each other; the message names them.
    """
    biosample = sheet[_keys.BIOSAMPLE]
    if not merge_replicates:
        biosample = _with_replicates(sheet)
    groups = sheet.groupby([biosample, sheet[_keys.ASSAY]], sort=False)
    tracks = [_track(str(name), str(assay), rows, merge_replicates) for (name, assay), rows in groups]
    names = pd.Index([track.name for track in tracks])
    if names.has_duplicates:
        raise ValueError(
            f"tracks must have different names; two biosamples and assays make {names[names.duplicated()][0]}."
        )
    return tracks


def _with_replicates(sheet: pd.DataFrame) -> pd.Series:
    """Biosample of each line, with its replicate where the biosample has several."""
    biosample, replicate = sheet[_keys.BIOSAMPLE], sheet[REPLICATE]
    several = replicate.groupby(biosample).transform("nunique") > 1
    unclear = several & (replicate == "")
    if unclear.any():
        line, more = sheet.index[unclear][0], and_more(int(unclear.sum()))
        raise ValueError(
            f"line {line} of the sheet must have a replicate{more}: {biosample[line]} has several. "
            "Fill it in (a control may stand once for each), or merge the replicates."
        )
    numbered = replicate.where(~replicate.str.isdecimal(), "rep" + replicate)
    return biosample.where(~several, biosample + "_" + numbered)


def _track(biosample: str, assay: str, rows: pd.DataFrame, merge_replicates: bool) -> Track:
    lines = f"lines {listed(rows.index)} of the sheet"
    if rows[CONTROL].nunique() > 1:
        raise ValueError(f"{lines} are one track, {biosample}.{assay}, so all or none must be a control.")
    is_counted = rows[KIND].isin(COUNTED)
    counted = dict(zip(rows.loc[is_counted, FILE], rows.loc[is_counted, KIND], strict=True))
    if len(counted) > 1 and not merge_replicates:
        raise ValueError(
            f"{lines} must have different replicates, as {biosample}.{assay} has {len(counted)} files of reads. "
            "Fill in the column replicate, or merge the replicates, which adds up the reads."
        )
    bigwigs = {kind: tuple(rows.loc[rows[KIND] == kind, FILE]) for kind in (PVALUE, FOLD_CHANGE)}
    for kind, files in bigwigs.items():
        if len(files) > 1:
            raise ValueError(
                f"{lines} name {len(files)} files of kind {kind} for {biosample}.{assay}, which cannot be added up. "
                "Keep that of the pooled replicates."
            )
    further = rows.drop(columns=list(_KNOWN))
    return Track(
        biosample=biosample,
        assay=assay,
        is_control=bool(rows[CONTROL].iloc[0]),
        counted=counted,
        pvalue=next(iter(bigwigs[PVALUE]), None),
        fold_change=next(iter(bigwigs[FOLD_CHANGE]), None),
        covariates={str(name): cells.iloc[0] for name, cells in further.items() if cells.nunique() == 1},
    )
