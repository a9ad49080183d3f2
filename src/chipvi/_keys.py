"""Every column, layer and registry name of chipvi, once."""

# Columns of obs that place a region on the genome (0-based, half-open).
CHROM = "chrom"
START = "start"
END = "end"

# Column of a table of genes.
STRAND = "strand"

# Columns of var that describe a track, also of a table of tracks to predict.
BIOSAMPLE = "biosample"
ASSAY = "assay"
DEPTH = "depth"
IS_CONTROL = "is_control"

# Layers that go in, as our own readers and simulators call them.
OBSERVED = "observed"
SIGNAL = "signal"

# Layer of simulated data: the true rate under the counts.
RATE = "rate"

# Layers of a result, next to the imputed counts in X.
LOWER = "lower"
UPPER = "upper"
DISPERSION = "dispersion"
DENOISED = "denoised"
PVAL = "pval"
PVAL_STD = "pval_std"

# Layer of a result to draw: the average of the other biosamples, at the depth of each track.
AVERAGE = "average"

# In uns: the name of the assembly of the regions, and what a result of a model comes from, that name included.
ASSEMBLY = "assembly"
PROVENANCE = "chipvi"

# Files of a saved model
MODEL_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
DATA_FILE = "adata.h5ad"
PICKLE_FILE = "model.pt"  # of scvi-tools, and of chipvi before the others; never opened
