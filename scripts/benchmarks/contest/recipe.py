"""The numbers of 'adamw', which are nanoGPT's for small networks: for those that train by optax, and for PyTorch."""

BETAS, DECAY, CLIP = (0.9, 0.99), 0.1, 1.0
