"""K-FAC beside kfac-jax's: the same starts and batches, each in its own environment."""
