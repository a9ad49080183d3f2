"""ChipVI: the model as users of scvi-tools know it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import asdict, astuple, replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.data.fields import LayerField
from scvi.model.base import BaseModelClass

from .. import _keys
from .._arguments import LARGEST_SEED, checked, refuse_unknown, require_whole
from .._files import claimed
from .._messages import Place, levels_to_caller, unknown
from .._quiet import announce
from ..calibrate import holdout
from ..calibrate.boosting import boost, choose_boosted
from ..calibrate.holdout import checkpoints_beside, has_gaps, plan_rounds
from ..calibrate.recalibration import recalibrate
from ..calibrate.replicates import learn_noise
from ..data.check import SetupKeys, check_anndata, open_track_data
from ..data.context import choose_half_widths, describe_context
from ..data.grid import Grid, Initialisation
from ..data.minibatch import take_regions
from ..data.outlook import Outlook
from ..data.splits import MOST_STANDARDISED, Split, split_regions
from ..data.track_data import TrackData, ViewKind, names_of_columns
from ..module.vae import ChipVAE, ModuleOptions
from ..train.findings import Finding
from ..train.plan import PlanOptions, TrainingPlan
from ..train.ranks import find_ranks
from ..train.recorder import extend_history
from ..train.runner import FitOptions, choose_accelerator, default_batch_size, default_steps, fit, take_patience
from ..train.trainable import TrainableMask
from ..train.words import describe, describe_length, describe_outlook
from .card import CardMixin
from .diagnosis import DiagnosisMixin
from .differential import DifferentialMixin
from .field import (
    TRACKS_FIELD,
    OneBatch,
    TracksField,
    registered_grid,
    registered_tracks,
    registered_views,
    registered_widths,
)
from .habits import HabitsMixin
from .imputation import ImputationMixin
from .intervals import IntervalMixin
from .likelihood import LikelihoodMixin
from .query import QueryMixin, ReferenceSize
from .saving import SaveMixin, weights_follow

_QUERY_STEPS = 300
_HELD_OUT = 0.1


class ChipVI(
    ImputationMixin,
    IntervalMixin,
    LikelihoodMixin,
    DiagnosisMixin,
    DifferentialMixin,
    QueryMixin,
    SaveMixin,
    CardMixin,
    HabitsMixin,
    BaseModelClass,
):
    """Imputes and denoises ChIP-seq, ATAC-seq and DNase-seq tracks from raw counts and p-value signal.

    Parameters
    ----------
    adata
        Regions x tracks, set up with :meth:`setup_anndata`.
    n_latent
        Size of the latent of a region in a biosample.
    n_hidden
        Width of the two hidden layers of the encoder.
    dropout
        Share of hidden units dropped in training, 0 to below 1.
    head
        Count head: "mean_dispersion", "count_logits", "clamped_np", "poisson" or "zero_inflated".
    head_options
        Options of the head's constructor, such as `{"logit_clamp": None}` of "clamped_np".
    kl_weight, mean_weight, denoise_weight
        Weights in the loss; see :class:`chipvi.module.ChipVAE`.

    Examples
    --------
    >>> import chipvi
    >>> adata = chipvi.datasets.simulate(n_regions=1_000)
    >>> chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    >>> model = chipvi.ChipVI(adata)
    >>> model.train(max_steps=20, enable_progress_bar=False)
    >>> model.get_imputed_counts(indices=[0, 1, 2], tracks=["cell1.H3K4me3"]).shape
    (3, 1)
    """

    _module_cls = ChipVAE

    @checked
    def __init__(
        self,
        adata: AnnData,
        n_latent: int = 32,
        n_hidden: int = 256,
        dropout: float = 0.1,
        head: str = "mean_dispersion",
        head_options: dict[str, float | None] | None = None,
        kl_weight: float = 0.001,
        mean_weight: float = 1.0,
        denoise_weight: float = 1.0,
    ) -> None:
        super().__init__(adata)
        self.is_trained_: bool
        self.history_: dict[str, pd.DataFrame] | None
        self.findings_: list[dict[str, Any]] = []  # plain values, for they are saved
        self.seeds_: tuple[int, ...] = ()  # of each training
        self.n_steps_ = 0  # of all of them
        self.reference_size_: ReferenceSize | None = None  # of a query
        self.module_options = ModuleOptions(
            n_latent=n_latent,
            n_hidden=n_hidden,
            dropout=dropout,
            head=head,
            head_options=head_options,
            kl_weight=kl_weight,
            mean_weight=mean_weight,
            denoise_weight=denoise_weight,
        )
        self._grid = registered_grid(self._tracks_state)
        self.module = self._make_module(self.data) if not weights_follow.get() else self._blank_module()
        self._model_summary_string = (
            f"ChipVI: {len(self.grid.biosamples)} biosamples x {len(self.grid.assays)} assays, "
            f"{len(self.grid.biosample_t)} tracks, n_latent: {n_latent}, n_hidden: {n_hidden}, head: {head}, "
            f"context: {self.context}"
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    @checked
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        observed_layer: str | None = None,
        signal_layer: str | None = None,
        biosample_key: str = _keys.BIOSAMPLE,
        assay_key: str = _keys.ASSAY,
        depth_key: str | None = None,
        control_key: str | None = None,
        condition_key: str | None = None,
        segment_key: str | None = None,
        covariate_keys: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """Check an AnnData and register it. If the check fails, the AnnData is as it was.

        Parameters
        ----------
        adata
            Regions (rows) x tracks (columns). Without `segment_key`, `obs` places the regions with `chrom`, `start` and
            `end` (0-based, half-open), sorted. Its matrices may lie in memory, in a file (backed, or opened by
            `anndata.experimental.read_lazy`, whose `obs` and `var` are then read into memory), or be arrays of dask.
        layer
            Layer with counts, whole numbers from 0, NaN where missing; None for X.
        observed_layer
            Layer that is 1 where counts were measured and 0 where they are missing.
        signal_layer
            Layer with arcsinh(-log10 p), NaN where missing. That of a control may hold any real number, such as
            methylation or a fold change: it is seen and never predicted.
        biosample_key, assay_key
            Columns of `var` that say what was measured.
        depth_key
            Column of `var` with reads per track; None adds up the counts.
        control_key
            Column of `var` that is true for controls: input only, always visible, never a target.
        condition_key
            Column of `var` that replicates share, such as the cell type: the biosamples of one condition are replicates
            of each other. What they differ by beyond the chance of reads is noise, which denoising then takes out;
            without it, whatever the reads of an experiment show is taken for its rate.
        segment_key
            Column of `obs` whose equal values mark neighbouring rows, where there are no coordinates.
        covariate_keys
            Columns of `obs` with a real number for every region, such as GC content or mappability. They are
            standardised, and encoder and decoder see them; they are never predicted.
        **kwargs
            `source_registry`, with which scvi-tools sets up data for a saved model.

        Raises
        ------
        ValueError
            For data that break the contract: what was expected, what was found and where, and what to do.
        """
        if isinstance(covariate_keys, str):
            raise ValueError(f"covariate_keys must be a list of columns of obs, such as [{covariate_keys!r}].")
        covariate_keys = tuple(covariate_keys)
        refuse_unknown(kwargs, [*asdict(SetupKeys()), "source_registry"], "the arguments of setup_anndata")
        setup_method_args = cls._get_setup_method_args(**locals())
        keys = SetupKeys(**setup_method_args["setup_args"])
        source_registry = kwargs.pop("source_registry", None)
        if source_registry is None:
            data = check_anndata(adata, keys)
            tracks = TracksField(keys, data.seen, data.views, data.segments.widths)
        else:
            state = source_registry["field_registries"][TRACKS_FIELD]["state_registry"]
            open_track_data(adata, keys, registered_tracks(state), registered_widths(state))
            tracks = TracksField(keys, *registered_views(state), registered_widths(state))
        if adata.is_view:
            adata._init_as_actual(adata.copy())
        fields: list = [
            tracks,
            OneBatch(),  # without one, predictions poison the registry
        ]
        if keys.layer is not None or adata.X is not None:
            fields.append(LayerField(REGISTRY_KEYS.X_KEY, keys.layer, is_count_data=False, correct_data_format=False))
        manager = AnnDataManager(
            fields=fields,
            setup_method_args=setup_method_args,
            validation_checks=AnnDataManagerValidationCheck(check_if_view=False),
        )
        manager.register_fields(adata, source_registry, **kwargs)
        cls.register_manager(manager)

    @checked
    def train(
        self,
        max_epochs: int | None = None,
        max_steps: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        batch_size: int | None = None,
        validation_size: float | None = None,
        split_key: str | None = None,
        early_stopping: bool = False,
        seed: int | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        checkpoint: str | PathLike | None = None,
        keep_checkpoint: bool = False,
        calibrate_unseen: bool | None = None,
        boosted_trees: bool | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        How far it looks around each region is in :attr:`context`, and in the summary that a model prints as.

        Where cells of the grid of biosamples and assays are empty, held-out-track calibration follows: two more models
        are trained without some of the tracks and impute these. These trainings come on top of the steps asked for: a
        sixth of them each, but 200 (or all, if that is less) at least, as a line says. From that the model learns
        how far to follow the average of the other biosamples where it imputes an experiment that nobody has run, how
        strong that will be, and how uncertain (:attr:`unseen_expectations`).

        Whatever ends training early with an exception leaves the model as it was, its history and advice included.

        Parameters
        ----------
        max_epochs
            Passes over the training regions, which are the epochs of callbacks; ignored if `max_steps` is given, and
            all of that is one epoch.
        max_steps
            Minibatches to train on, of each device. Without either: 3,000, or one pass if that is more; 300 for a
            query.
        accelerator, devices
            Where to train, as Lightning has it: "cpu", "gpu", "auto", ... and on how many devices, or on which. On
            several, a process for each trains the same model on regions of its own (`strategy="ddp"`; on further
            machines with `num_nodes`), which needs a `seed`; torchrun, srun or Lightning itself starts them, and each
            of them ends with the same model.
        batch_size
            Regions in a minibatch, of each device. None: 512, or 1,024 of 20,000 regions or more of 64 tracks or fewer.
        validation_size
            Share of the regions to hold out, in whole stretches, 0 to below 1. None: 0.1 with early stopping or a
            `split_key`, or else 0, for every region helps: a tenth less cost 0.03 of R2 on 28,000 regions.
        split_key
            Column of `obs`: with the values "train", "valid" and "test" it is the split (test regions are not looked
            at); with others, such as chromosomes, whole groups are held out.
        early_stopping
            Stop when the imputation loss on held-out regions no longer falls; the best weights are kept.
        seed
            Makes training reproducible: the first training starts from weights drawn with it. None draws a seed from
            torch's own generator, which `scvi.settings.seed` sets. It is kept in :attr:`seeds_` and saved.
        plan_kwargs
            Options of :class:`chipvi.train.PlanOptions`.
        checkpoint
            File to save the training to once a minute, which needs a `seed`. After a crash or an interrupt, the same
            call on the same model and data goes on from it, and on a CPU ends in the same weights, bit by bit, as if
            it had run in one go. The file is removed at the end.
        keep_checkpoint
            Whether it stays, so that nothing is lost if the model cannot be saved afterwards; it then lies there, with
            those of held-out-track calibration (`.held_out1`, `.held_out2`), until it is removed by hand.
        calibrate_unseen
            Whether held-out-track calibration follows; None: if any cell of the grid is empty. True also serves
            :meth:`load_query_data`.
        boosted_trees
            Whether boosted trees of each measured track stand beside the network: the imputed mean is the geometric
            mean of the two (of signal, the plain one) wherever all is visible that the trees always saw. They err
            elsewhere, so that both together are better on nearly every track. None: for up to 64 tracks, and
            for counts where 10,000 regions or more are trained on, since of few regions they flatten sharp peaks.
            Never for a query, and never where fewer than 2,000 regions are trained on.
        **trainer_kwargs
            `early_stopping_patience`: validations, 20 in a run, without a lower loss after which training stops early;
            8 by default. All others go to :class:`scvi.train.Trainer`, such as `precision="bf16-mixed"`,
            `enable_progress_bar=False`, `callbacks`, or `logger`, which gets all of :attr:`history` as it is written:
            `logger=lightning.pytorch.loggers.CSVLogger("logs")` or `TensorBoardLogger("logs")`, or a list of them.

        Raises
        ------
        ValueError
            For an unknown `split_key`, sizes out of range, devices that there are not, several devices or a checkpoint
            without seed, or a checkpoint of another training.
        FloatingPointError
            If the loss or its gradient is no longer finite.
        KeyboardInterrupt
            If it is interrupted and has a checkpoint, or while it is calibrated. Without a checkpoint an interrupt ends
            training early, with a warning, and the model keeps what it has learnt.
        InterruptedError
            If the process is asked to end (SIGTERM).
        BlockingIOError
            If another process is training with this checkpoint.
        ConnectionError
            If another of several processes that train together has ended.
        OSError
            If the checkpoint cannot be written, as where the disk is full.

        Warns
        -----
        TrainingAdvice
            For signs of a model that does not learn as it should, each once; :attr:`advice` keeps them.
        """
        if "rehearsal" in trainer_kwargs:
            warnings.warn("rehearsal= is now called calibrate_unseen=.", FutureWarning, stacklevel=levels_to_caller())
            calibrate_unseen = trainer_kwargs.pop("rehearsal")
        patience = take_patience(trainer_kwargs, early_stopping)
        data = self.data
        labels = None
        if split_key is not None:
            if split_key not in self.adata.obs:
                raise ValueError(unknown("split_key", split_key, names_of_columns(self.adata), "adata.obs"))
            labels = self.adata.obs[split_key]
        for name, value in (("batch_size", batch_size), ("max_steps", max_steps), ("max_epochs", max_epochs)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
            if value is not None:
                require_whole(name, value, least=1, most=2**31 - 1)
        if checkpoint is not None and seed is None:
            raise ValueError("with a checkpoint, name a seed, which distinguishes this training from others.")
        several = {name: trainer_kwargs[name] for name in ("num_nodes", "strategy") if name in trainer_kwargs}
        ranks = find_ranks(choose_accelerator(accelerator), devices, **several)
        if ranks.size > 1 and seed is None:
            raise ValueError(f"on {ranks.size} devices, name a seed, which the processes for them share.")
        if seed is not None:
            require_whole("seed", seed, least=0, most=LARGEST_SEED)
        else:
            seed = int(torch.randint(2**31, ()))
        if validation_size is None:
            validation_size = _HELD_OUT if early_stopping or split_key is not None else 0.0
        split = split_regions(data.segments, labels, validation_size, np.random.default_rng(seed))
        if batch_size is None:
            batch_size = default_batch_size(len(split.train), data.n_tracks)
        n_epochs = 1
        if max_steps is None and max_epochs is not None:
            n_epochs = max_epochs
            max_steps = max_epochs * -(-len(split.train) // (batch_size * ranks.size))
        elif max_steps is None:
            is_query = self.reference_size_ is not None
            max_steps = _QUERY_STEPS if is_query else default_steps(len(split.train), batch_size, ranks.size)
        options = FitOptions(
            n_steps=max_steps,
            batch_size=batch_size,
            seed=seed,
            early_stopping=early_stopping,
            plan=PlanOptions.of(plan_kwargs),
            accelerator=accelerator,
            devices=devices,
            checkpoint=None if checkpoint is None else Path(checkpoint),
            trainer=trainer_kwargs,
            patience=patience,
            ranks=ranks,
            n_epochs=n_epochs,
        )
        rounds, outlook = self.plan_calibration(max_steps, calibrate_unseen), Outlook.of(data)
        if outlook.is_poor and options.shows_progress and ranks.is_first:
            announce(describe_outlook(outlook))
        if rounds and options.shows_progress and ranks.is_first:
            announce(f"To train: {describe_length(max_steps, rounds)} calibrate_unseen=False leaves it out.")
        with claimed(Path(checkpoint)) if checkpoint is not None and ranks.is_first else nullcontext():
            with ranks.ending_together():
                self.fit_split(
                    data,
                    split,
                    options,
                    calibrate_unseen=calibrate_unseen,
                    boosted=choose_boosted(
                        boosted_trees,
                        int(self.module.tracks.is_target_t.sum()),
                        len(split.train),
                        data.segments.bin_width,
                    ),
                )
            if options.checkpoint is not None and ranks.is_first and not keep_checkpoint:
                for file in (options.checkpoint, *checkpoints_beside(options.checkpoint)):
                    file.unlink(missing_ok=True)

    def plan_calibration(self, n_steps: int, calibrate_unseen: bool | None = None) -> list[int]:
        """Steps of each training of held-out-track calibration that follows a training of so many; [] without any.

        Parameters
        ----------
        n_steps, calibrate_unseen
            As in :meth:`train`.
        """
        if self.reference_size_ is not None or not self._wants_unseen(calibrate_unseen, self.module):
            return []
        return plan_rounds(self.grid, self.module.known_array_ba, n_steps)

    def fit_split(
        self,
        data: TrackData,
        split: Split,
        options: FitOptions,
        recalibrate_spread: bool = True,
        calibrate_unseen: bool | None = False,
        boosted: Collection[ViewKind] = (),
    ) -> None:
        """Train on a split of the data; :meth:`train` makes the split and the options.

        Parameters
        ----------
        data, split, options
            What to train on, and how.
        recalibrate_spread
            Whether the regions to validate on serve to calibrate the spread. Without, they remain to be judged on.
        calibrate_unseen
            As in :meth:`train`.
        boosted
            Views that get boosted trees.
        """
        data = data.within(split.cut(data.segments), split.train)
        size = self.reference_size_
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(options.seed)
            # a copy, so that whatever interrupts training leaves the model as it is
            module = copy.deepcopy(self.module) if self.is_trained_ else self._make_module(data, split.train)
            mask = None if size is None else TrainableMask.of_query(module, *astuple(size))
            plan = fit(module, data, split, options, mask, host=self._stand_in)
        if size is None:
            module.trees.clear()
            if boosted and not plan.was_interrupted:
                shows_progress = options.shows_progress and options.ranks.is_first
                boost(module, data, split.train, boosted, options.seed, shows_progress)
                # on unlike machines they may be other trees, or more of them
                first = options.ranks.gather({name: value.cpu() for name, value in module.trees.named_buffers()})[0]
                module.trees.take(first)
        recalibrate(module, self.grid, data, split.train, split.validation if recalibrate_spread else split.train[:0])
        conditions = registered_tracks(self._tracks_state).conditions
        if conditions is not None and ViewKind.COUNTS in self.grid.views:
            learn_noise(module, self.grid, data, split.train, conditions)
        if size is not None:
            module.learn_tracks(size.n_tracks + np.flatnonzero(data.measured_t[size.n_tracks :]))
        elif not plan.was_interrupted and self._wants_unseen(calibrate_unseen, module):
            shorter = replace(options, n_steps=plan.global_step, n_epochs=1)  # may be fewer than planned
            holdout.calibrate_unseen(module, self._make_module, self.grid, data, split, shorter)
        options.ranks.share(module)
        history = extend_history(self.history_ or {}, plan.history)
        findings = [*self.findings_, *(finding.plain() for finding in plan.findings)]
        self.module, self.history_, self.findings_, self.is_trained_ = module, history, findings, True
        self.seeds_, self.n_steps_ = (*self.seeds_, options.seed), self.n_steps_ + plan.global_step
        self._split = split

    def _stand_in(self, plan: TrainingPlan) -> ChipVI:
        """A model with the weights that are kept so far; this one does not change before training has ended."""
        model = copy.copy(self)
        model.module = cast(ChipVAE, plan.average.module)
        return model

    def _wants_unseen(self, wish: bool | None, module: ChipVAE) -> bool:
        return has_gaps(self.grid, module.known_array_ba) if wish is None else wish

    def _make_module(
        self, data: TrackData, rows: np.ndarray | None = None, start: Initialisation | None = None
    ) -> ChipVAE:
        """A module that starts from the data, inputs standardised on some of these rows (None: of all)."""
        start = Initialisation.of(data, self.grid) if start is None else start
        half_widths = choose_half_widths(registered_widths(self._tracks_state).typical)
        n_covariates = len(self.setup_keys.covariate_keys)
        module = self._module_cls(self.grid, start, self.module_options, n_covariates, half_widths)
        rows = np.arange(data.n_regions) if rows is None else rows
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST_STANDARDISED, len(rows))).astype(np.int64))]
        module.standardise(take_regions(data, rows, half_widths))
        return module

    def _blank_module(self) -> ChipVAE:
        """A module that looks at no data, for its weights are about to be loaded."""
        half_widths = choose_half_widths(registered_widths(self._tracks_state).typical)
        n_covariates = len(self.setup_keys.covariate_keys)
        return self._module_cls(
            self.grid, Initialisation.blank(self.grid), self.module_options, n_covariates, half_widths
        )

    @property
    def context(self) -> str:
        """How far the model looks around the middle of a region, such as "6 kb to either side"."""
        return describe_context(self.module.half_widths, registered_widths(self._tracks_state).typical)

    @property
    def _tracks_state(self) -> dict[str, Any]:
        return self.registry_["field_registries"][TRACKS_FIELD]["state_registry"]

    @property
    def setup_keys(self) -> SetupKeys:
        """Where the AnnData keeps what, as it was set up."""
        arguments = self.registry_["setup_args"]
        return SetupKeys(**{name: arguments[name] for name in asdict(SetupKeys())})

    @property
    def grid(self) -> Grid:
        """Which track is which biosample and assay."""
        return self._grid

    @property
    def data(self) -> TrackData:
        """The model's own AnnData, checked and opened anew at each access."""
        return self.open_data()

    def open_data(self, adata: AnnData | None = None) -> TrackData:
        """Check and open an AnnData with the same tracks; None: that of the model.

        Raises
        ------
        ValueError
            If it breaks the contract, or has other tracks.
        """
        source = self.adata if adata is None else adata
        state = self._tracks_state
        return open_track_data(source, self.setup_keys, registered_tracks(state), registered_widths(state))

    @property
    def history(self) -> dict[str, pd.DataFrame] | None:
        """A table per quantity logged in training, indexed by step; None before training.

        A table has a column of its own name, or one per track or latent, such as `true_mean_by_track.K562.H3K4me3` and
        `kl_by_latent.7`. All of them as one file: ``pd.concat(model.history.values(), axis=1).to_csv("history.csv")``.
        """
        return self.history_

    @property
    def advice(self) -> list[str]:
        """What training warned of with :class:`chipvi.train.TrainingAdvice`, in that order."""
        return [describe(finding, Place.PYTHON) for finding in self.findings]

    @property
    def findings(self) -> list[Finding]:
        """What :attr:`advice` is made of: the signs that training found, with numbers in place of words."""
        return [Finding.of(plain) for plain in self.findings_]

    @property
    def unseen_expectations(self) -> pd.DataFrame:
        """What is expected of each experiment that training never saw, a row for each view of an empty cell.

        `blend_weight` is that of the average of the other biosamples in the mean; `log_amplitude` the log of the factor
        by which the mean departs more from the level of its assay than the network has it; `log_spread` that of the
        dispersion of counts, or of the standard deviation of signal. Beside each stands its standard deviation, over
        which predictions are integrated; 0 without a trial.
        """
        unknowns = ("blend_weight", "log_amplitude", "log_spread")
        columns = [name for unknown in unknowns for name in (unknown, f"{unknown}_std")]
        is_target_a = np.isin(np.arange(len(self.grid.assays)), self.grid.assay_t[self.grid.is_target_t])
        b, a = np.nonzero(~self.module.known_array_ba & is_target_a)
        tables = []
        for view in self.module.views:
            mean_nu, std_nu = (x.cpu().numpy()[b, a] for x in (view.unseen.mean_bau, view.unseen.std_bau))
            table = pd.DataFrame(np.stack([mean_nu, std_nu], axis=2).reshape(len(b), -1), columns=columns)
            labels = {
                "biosample": np.array(self.grid.biosamples)[b],
                "assay": np.array(self.grid.assays)[a],
                "view": str(view.kind),
            }
            tables.append(table.assign(**labels)[[*labels, *columns]])
        return pd.concat(tables, ignore_index=True)

    @property
    def biosamples(self) -> tuple[str, ...]:
        """Names of the biosamples."""
        return self.grid.biosamples
