"""Scores of a prediction file of any tool against a truth file."""
