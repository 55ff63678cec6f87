"""Networks whose gradients an accelerator computes, by hand, by `jax.grad` and by other packages."""
