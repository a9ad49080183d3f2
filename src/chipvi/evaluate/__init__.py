"""Judgement of predictions against what was measured, of this model or of any tool."""
