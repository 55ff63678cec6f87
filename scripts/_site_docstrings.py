"""What griffe calls for each docstring that the site shows, see mkdocs.yml; the work is done in scripts/pages."""

from typing import Any

import griffe
from pages.equations import in_docstring


class Docstrings(griffe.Extension):
    """Changes a docstring before griffe looks for its sections."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Called by griffe with a module, class, function or attribute that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = in_docstring(obj.docstring.value)
