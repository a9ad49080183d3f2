"""What an AnnData holds: its tracks, segments and grid, checked once and read in minibatches."""
