"""What mkdocs calls while it builds the site, see mkdocs.yml; the work is done in scripts/pages."""

from pathlib import Path
from typing import Any

from pages import equations, mathematics, notebooks, outside, sources


def on_files(files: Any, config: Any) -> Any:
    """Adds pages of notebooks, of what lies outside of docs/, and of files of the repository that pages lead to."""
    from mkdocs.structure.files import File, InclusionLevel

    pages = [sources.source(file.src_uri) for file in files.documentation_pages()]
    for file in sources.SHOWN:
        text = (sources.ROOT / file).read_text(encoding="utf-8")
        files.append(File.generated(config, sources.place(file), content=text))
    for file in notebooks.FILES:
        text, pictures = notebooks.shown(file)
        files.append(File.generated(config, sources.place(file), content=text))
        for there, picture in pictures.items():
            files.append(File.generated(config, there, content=picture))
    for file in sorted(sources.pages_led_to([*pages, *sources.SHOWN])):
        aside = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, sources.place(file), content=sources.shown(file), inclusion=aside))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository lead to their pages, and equations are no markup."""
    place = page.file.src_uri
    if place.startswith("source/"):
        return markdown
    return equations.in_page(sources.on_site(markdown, sources.source(place)))


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """LaTeX becomes MathML. mkdocs is told of lines of code, and asks of each link to one whether it is there."""
    page.present_anchor_ids |= sources.lines_in(html)
    return mathematics.typeset(html)


def on_post_build(config: Any) -> None:
    """Refuses a site whose pages are not whole without a network."""
    outside.refuse_fetched(Path(config.site_dir))
