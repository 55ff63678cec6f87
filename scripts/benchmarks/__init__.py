"""Experiments that put a claim to the test; each `run(out)` prints a table and writes its numbers and a figure."""
