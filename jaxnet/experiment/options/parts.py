"""Which examples are held out, and what each example counts: options of the data beside their columns."""

import dataclasses
from typing import Literal

from jaxnet.experiment.console.errors import BadInput, option


@dataclasses.dataclass(frozen=True)
class PartOptions:
    """Where the validation and the test part come from, and the weights of examples."""

    validation: str | None = None
    """A file or folder with the validation part, its columns found by name; then --data is not split for one."""
    test: str | None = None
    """A file or folder with the test part, its columns found by name; then --data is not split for one."""
    validation_fraction: float | None = None
    """The share of --data's examples that makes up the validation part; by default 0.1."""
    test_fraction: float | None = None
    """The share of --data's examples that makes up the test part; by default 0.2."""
    group: str | None = None
    """A column that says which rows belong together, as those of one patient: no two parts share any of its values. It
    is no feature."""
    weights: str | None = None
    """A column of numbers, 0 or more: what each example counts, in training and in all losses and scores. It is no
    feature."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: in losses, each example counts in inverse proportion to how many the training part has of its class."""

    @property
    def weighted(self) -> bool:
        """Whether some examples count more than others in the loss."""
        return self.weights is not None or self.class_weights != "none"

    def check_parts(self, *, noise: bool) -> None:
        """Refuses what cannot be.

        Args:
          noise: whether each example's part in a step is covered by noise.

        Raises:
          BadInput: naming the option.
        """
        for name in ("validation_fraction", "test_fraction"):
            value, file = getattr(self, name), name.removesuffix("_fraction")
            if value is not None and not 0 < value < 1:
                raise BadInput(f"{option(name)}: expected a share between 0 and 1, as 0.2; got {value:g}")
            if value is not None and getattr(self, file) is not None:
                raise BadInput(f"{option(name)}: {option(file)} names the whole part already; leave one of them out")
        asked = [value for value in (self.validation_fraction, self.test_fraction) if value is not None]
        if sum(asked) >= 1:
            raise BadInput(f"--test-fraction: with --validation-fraction it is {sum(asked):g}; expected less than 1")
        if self.group is not None and self.group == self.weights:
            raise BadInput(f"--group {self.group}: is given as --weights too; expected two columns")
        for name, is_given in (("weights", self.weights is not None), ("class_weights", self.class_weights != "none")):
            if is_given and noise:
                raise BadInput(
                    f"{option(name)}: the noise of --noise-multiplier is for examples that count alike; leave one of "
                    "them out"
                )
