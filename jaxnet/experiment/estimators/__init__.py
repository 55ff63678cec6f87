"""Training as scikit-learn calls it."""
