"""Calibration after training: corrections of measured tracks, and what to expect of experiments nobody ran."""
