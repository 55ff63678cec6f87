"""The sizes of a mesh, as --mesh names them."""

import re

from jaxnet.experiment.console.errors import BadInput


def read_mesh(text: str | None, devices: int) -> tuple[int, int]:
    """From 'data=4,model=2', in any order, either left out, to (4, 2); from None to (devices, 1).

    Raises:
      BadInput: when it is something else.
    """
    if text is None:
        return devices, 1
    sizes = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(data|model)\s*=\s*([1-9]\d{0,5})\s*", part)
        if match is None or match[1] in sizes:
            raise BadInput(f"--mesh: expected numbers of devices, as data=4,model=2; got {text!r}")
        sizes[match[1]] = int(match[2])
    return sizes.get("data", 1), sizes.get("model", 1)
