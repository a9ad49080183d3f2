"""What a trained model expects of tracks: imputed and denoised counts, p-values, the likelihood of counts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from concurrent.futures import Executor
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from .. import _keys
from .._arguments import checked, require_processes, require_shard
from .._files import digest, require_writable
from ..data.annotation import named, take_rows, without_matrices
from ..data.track_data import SCVI_COLUMNS, ViewKind
from ..io.genomes import assembly_of
from ..module.inputs import Surroundings
from ..predict.imputation import Imputation, Imputer, choose_workers, only
from ..predict.predictor import shared_draws
from ..predict.quantiles import latent_noise
from ..predict.request import Indices, Request, TracksArgument, require_level, require_samples
from .parameters import documented
from .requests import RequestMixin


class ImputationMixin(RequestMixin):
    """The predictions of :class:`chipvi.ChipVI`.

    The latent is its posterior mean unless `n_samples` says otherwise, and the same call gives the same numbers.
    """

    @documented
    @checked
    def impute(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        level: float = 0.95,
        batch_size: int | None = None,
        out: str | PathLike | None = None,
        processes: int | None = None,
        executor: Executor | None = None,
        shard: tuple[int, int] | None = None,
        intervals: bool = True,
        denoised: bool = True,
    ) -> AnnData | Path:
        """Impute and denoise in one pass.

        The numbers are the same, bit by bit, whoever computes them, on one kind of processor.

        Parameters
        ----------
        %(asked)s
        level
            Probability of the interval, 0 to 1.
        %(batch_size)s
        out
            File to stream to, ending in `.h5ad` or `.zarr`, so that memory does not grow with the regions. It must not
            exist. Its regions ascend without repeats, whatever the order of `indices`. What is done is kept beside it
            meanwhile, in a hidden folder, so that after an error or an interrupt the same call does only what is
            missing.
        processes
            How many processes impute side by side, on one thread each; by default as many as there are cores and
            memory for, if it is worth it, and one on a GPU. Regions whose process dies are done again, twice at most.
        executor
            Imputes in place of such processes: any of :mod:`concurrent.futures`, or what
            `dask.distributed.Client.get_executor` returns. With `out`, its workers see that place by the same path.
        shard
            With (2, 4), only the second of four parts of the regions is imputed, and kept beside `out`. The parts may
            be done at the same time, on several machines with one file system; the same call without `shard` then does
            what is missing, if anything is, and writes `out`.
        intervals, denoised
            False leaves out these layers, and the time that they take.

        Returns
        -------
        Regions x tracks, or with `out` the path written. X is the imputed count; the layers are `lower` and `upper`
        (ends of the interval, counts), `dispersion`, `denoised` (expected count, own data used), and with signal `pval`
        and `pval_std` (arcsinh(-log10 p)). Without counts X is the imputed signal. `uns["chipvi"]` has what it comes
        from: the `model`, a digest of its `weights`, the `version` of chipvi, the `level` of the intervals, the `depth`
        if one was asked for, the `assembly` if the data name one UCSC has, and which tracks were `measured` and which
        only `imputed`.

        Raises
        ------
        ValueError
            For unknown tracks, a level or depth out of range, or a single track, which has nothing to go by.
        BlockingIOError
            If another process is writing to `out`.
        ChildProcessError
            If a worker died over the same regions three times, or the executor lost some.
        OSError
            If `out` cannot be written, as where the disk is full.
        """
        require_shard(shard)
        if out is not None:
            require_writable(Path(out))
        elif shard is not None:
            raise ValueError("a shard is kept beside the file that it becomes part of; name the file with out.")
        plan = (level, batch_size, processes, executor, intervals, denoised)
        work = self.plan_imputation(adata, indices, tracks, depth, *plan)
        if out is not None:
            return work.write(Path(out), shard)
        frame, back = work.frame, work.request.back
        arrays = {name: values[back] for name, values in work.compute().items()}
        obs = named(frame.obs).iloc[back].copy()
        return AnnData(X=arrays.pop("X"), obs=obs, var=frame.var, uns=frame.uns, layers=arrays)

    @documented
    def plan_imputation(
        self,
        adata: AnnData | None,
        indices: Indices,
        tracks: TracksArgument,
        depth: float | None,
        level: float,
        batch_size: int | None = None,
        processes: int | None = None,
        executor: Executor | None = None,
        intervals: bool = True,
        denoised: bool = True,
    ) -> Imputation:
        """Check and prepare what :meth:`impute` does; errors are the same.

        Parameters
        ----------
        %(asked)s
        level
            Probability of the interval, 0 to 1.
        %(batch_size)s
        processes, executor
            Who imputes.
        intervals, denoised
            What to compute beside the imputed counts.
        """
        require_level(level)
        require_processes(processes)
        is_on_cpu = self.module.known_ba.device.type == "cpu"
        is_shared = executor is not None or (processes or 1) > 1
        module = copy.deepcopy(self.module).cpu() if is_shared and not is_on_cpu else self.module
        request = self._request(adata, indices, tracks, depth, module)
        request.require_others()
        source = self.adata if adata is None else adata
        frame = without_matrices(
            obs=take_rows(source.obs.drop(columns=list(SCVI_COLUMNS), errors="ignore"), request.rows),
            var=request.target_table(with_depth=self.grid.has_counts),
            uns={_keys.PROVENANCE: self._provenance(request, source.uns, level if intervals else None, depth)},
        )
        return Imputation(
            request,
            Imputer(request.predictor, level if intervals else None, self.grid.views, denoised),
            batch_size,
            frame,
            choose_workers(processes, executor, request, is_on_cpu),
        )

    def _provenance(
        self, request: Request, uns: Mapping[str, Any], level: float | None, depth: float | None
    ) -> dict[str, Any]:
        """What a result comes from, in terms that files of an AnnData hold."""
        state = self.module.state_dict().items()
        columns, names = request.targets.columns, np.array(request.targets.names)
        is_measured_n = (columns >= 0) & request.data.measured_t[columns]
        found: dict[str, Any] = {
            "model": self._model_summary_string,
            "weights": digest(*(part for name, tensor in state for part in (name, tensor.cpu().contiguous().numpy()))),
            "version": version("chipvi"),
            "measured": names[is_measured_n],
            "imputed": names[~is_measured_n],
        }
        if level is not None:
            found["level"] = level
        if depth is not None:
            found["depth"] = float(depth)
        if (assembly := assembly_of(uns)) is not None:
            found[_keys.ASSEMBLY] = assembly
        return found

    @documented
    @checked
    def get_imputed_counts(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Expected count of each track, predicted without the track's own counts and signal.

        Parameters
        ----------
        %(asked)s
        %(batch_size)s
        %(return_numpy)s

        Returns
        -------
        Regions x tracks, in reads per region at that depth.

        Raises
        ------
        ValueError
            As :meth:`impute`, and for a model without counts.
        """
        request = self._counts_request(adata, indices, tracks, depth)
        mean, _ = _moments(request, ViewKind.COUNTS, batch_size)
        return request.frame(mean, return_numpy)

    @documented
    @checked
    def get_imputed_pvalues(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        scale: Literal["arcsinh", "-log10p"] = "arcsinh",
        return_std: bool = False,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> Any:
        """Expected p-value signal of each track, predicted without the track's own counts and signal.

        Parameters
        ----------
        %(adata)s
        %(indices)s
        %(tracks)s
        scale
            "arcsinh" for arcsinh(-log10 p), as in the signal layer; "-log10p" for its hyperbolic sine.
        return_std
            Return the standard deviation as well; on the scale "-log10p" by the delta method.
        %(batch_size)s
        return_numpy
            Arrays in place of tables.

        Returns
        -------
        Regions x tracks, or with `return_std` a pair of them.

        Raises
        ------
        ValueError
            As :meth:`impute`, for another scale, and for a model without signal.
        """
        if scale not in ("arcsinh", "-log10p"):
            raise ValueError(f"scale must be 'arcsinh' or '-log10p', got {scale!r}.")
        if not self.grid.has_signal:
            raise ValueError("the model was trained without signal; name a signal_layer in setup_anndata.")
        request = self._request(adata, indices, tracks)
        request.require_others()
        mean, std = _moments(request, ViewKind.SIGNAL, batch_size)
        if scale == "-log10p":
            mean, std = np.sinh(mean), np.cosh(mean) * std
        mean = request.frame(mean, return_numpy)
        return (mean, request.frame(std, return_numpy)) if return_std else mean

    @documented
    @checked
    def get_normalized_expression(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
        n_samples: int | None = None,
        return_mean: bool = True,
        library_size: float | Literal["latent"] | None = None,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised rate of each track: its expected count, given all data, its own included.

        Parameters
        ----------
        %(asked)s
        %(batch_size)s
        %(return_numpy)s
        n_samples
            Draws of the latent (seeded, the same for all regions) to take the mean over; None: the mean of its
            posterior, which is a little quicker and nearly the same.
        return_mean
            False for every draw, in place of their mean.
        library_size
            `depth` by the name that scvi-tools has for it; "latent" is each track's own.

        Returns
        -------
        Regions x tracks, in reads per region at that depth; an array draws x regions x tracks if `return_mean` is
        False. A track without data of its own is imputed.

        Raises
        ------
        ValueError
            For unknown tracks, a depth out of range, both `depth` and `library_size`, a `return_mean` of False without
            draws, and for a model without counts.
        """
        self._require_counts()
        require_samples(n_samples)
        if isinstance(library_size, str) and library_size != "latent":
            raise ValueError(
                f"library_size must be a number of reads or 'latent', each track's own; it is {library_size!r}."
            )
        if library_size is not None and depth is not None:
            raise ValueError("depth and library_size are the same; give one of them.")
        if n_samples is None and not return_mean:
            raise ValueError("return_mean=False is for every draw; give n_samples, how many to draw.")
        request = self._request(adata, indices, tracks, depth if isinstance(library_size, str | None) else library_size)
        predictor, asked = request.predictor, request.predictor.with_own_data()
        draws = shared_draws(torch.from_numpy(latent_noise(n_samples, self.module.options.n_latent)))

        def denoised(around: Surroundings) -> np.ndarray:
            mean_srn = predictor.predict(around, asked, draws)[ViewKind.COUNTS].mean_srn
            return (mean_srn.mean(dim=0) if return_mean else mean_srn.movedim(0, -1)).cpu().numpy()

        found = request.collect(denoised, batch_size)
        return request.frame(found, return_numpy) if return_mean else np.moveaxis(found, -1, 0)

    @documented
    @checked
    def get_likelihood_parameters(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> dict[str, Any]:
        """Negative binomial of the imputed count of each track.

        Parameters
        ----------
        %(asked)s
        %(batch_size)s
        return_numpy
            Arrays in place of tables.

        Returns
        -------
        `mean`, equal to :meth:`get_imputed_counts`, and `dispersions` (variance = mean + mean^2 / dispersion), regions
        x tracks each. For a head that is no negative binomial they match its mean and variance.
        """
        request = self._counts_request(adata, indices, tracks, depth)
        mean, dispersion = _moments(request, ViewKind.COUNTS, batch_size)
        return {
            "mean": request.frame(mean, return_numpy),
            "dispersions": request.frame(dispersion, return_numpy),
        }


def _moments(request: Request, kind: ViewKind, batch_size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of one view of the targets without their own data, regions x targets each."""
    predictor, asked = request.predictor, request.predictor.without_own_data()

    def moments(around: Surroundings) -> np.ndarray:
        answer = predictor.predict(around, asked)[kind]
        return np.stack([only(answer.mean_srn), only(answer.spread_srn)], axis=-1)

    mean, spread = np.moveaxis(request.collect(moments, batch_size), -1, 0)
    return mean, spread
