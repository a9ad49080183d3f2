"""Calibration after training: corrections of measured tracks, blend weight and spread of experiments nobody ran."""
