"""Runs of rows: their stages, their folder, their results."""
