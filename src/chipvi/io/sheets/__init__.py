"""Sample sheets: which files make up which track, and the AnnData that they become."""
