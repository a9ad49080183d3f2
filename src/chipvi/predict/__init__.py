"""Answers of a trained module: what is asked, in which batches, and where the results go."""
