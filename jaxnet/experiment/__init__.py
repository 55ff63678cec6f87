"""What the scripts are made of, and `draw`. Nothing in the core needs it: it is loaded where it is first used."""

from jaxnet.experiment.graph import draw

__all__ = ["draw"]
