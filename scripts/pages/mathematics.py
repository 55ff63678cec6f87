"""Mathematics as MathML, which browsers set themselves: the pages need no script and no font for it."""

import re
from html import unescape

# As pymdownx.arithmatex leaves what stands between dollars.
WRAPPED = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def typeset(html: str) -> str:
    """The page with its LaTeX as MathML; what stands on lines of its own scrolls by itself where it is too wide."""
    from latex2mathml.converter import convert

    def as_mathml(match):
        latex = unescape(match[2]).strip()
        if match[1] == "span":
            return convert(latex)
        return f'<div class="equation">{convert(latex, display="block")}</div>'

    return WRAPPED.sub(as_mathml, html)
