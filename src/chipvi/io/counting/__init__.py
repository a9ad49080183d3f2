"""Alignments and fragments to counts per region."""
