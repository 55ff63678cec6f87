"""The programs: train, predict, export, compare, check."""
