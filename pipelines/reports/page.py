"""Pages that stand alone: templates, and pictures as data inside the page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import write_text

MOST_BYTES = 4_500_000  # of all pictures of a page; a page is below 5 MB
# photographs are made smaller until they fit: longest side in pixels, WebP quality
_STEPS = ((1600, 85), (1200, 75), (900, 65), (640, 55), (400, 45))


@dataclass(frozen=True)
class Picture:
    """A picture inside a page.

    Attributes:
        source: a ``data:`` address.
        width: pixels.
        height: pixels.
        caption: what it shows, also for those who do not see it.
        chart: whether it is lines on white, which a dark page may invert, and no image of a patient.
    """

    source: str
    width: int
    height: int
    caption: str
    chart: bool = True


def render(template: str, **content: Any) -> str:
    """Return a page made from a template of ``templates/``; everything put into it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from pipelines.evaluation.meanings import meaning
    from pipelines.reports import words

    environment = Environment(
        loader=PackageLoader("pipelines.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": words.number, "interval": words.interval, "p_value": words.p_value}
    environment.globals["meaning"] = meaning
    return environment.get_template(template).render(content)


def write_page(path: str | os.PathLike[str], template: str, **content: Any) -> Path:
    """Write the page that :func:`render` makes, whole or not at all, and return its path.

    Raises:
        UserError: it cannot be written there.
    """
    page = render(template, **content)
    try:
        write_text(path, page)
    except OSError as error:
        raise UserError(
            f"Cannot write the page {path}: {error.strerror}.\n"
            "Give another file: --html of a comparison, --out of a report."
        ) from error
    return Path(path)


def charts(paths: Iterable[tuple[Path, str]]) -> list[Picture]:
    """Return PNG charts as they are, each with its caption; a file that cannot be read is left out."""
    from PIL import Image

    found = []
    for path, caption in paths:
        try:
            content = path.read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                found.append(Picture(_address("image/png", content), *image.size, caption))
        except OSError:
            continue
    return found


def photographs(paths: Iterable[tuple[Path, str]], most_bytes: int = MOST_BYTES) -> list[Picture]:
    """Return pictures as WebP, all of them together of at most ``most_bytes``, each with its caption.

    An empty caption becomes the title that the file itself knows. A file that cannot be read is left out, and so are
    the last ones where even small they do not fit.
    """
    paths = list(paths)
    for longest, quality in _STEPS:
        found = [picture for path in paths if (picture := _photograph(*path, longest, quality))]
        if size_of(found) <= most_bytes:
            return found
    while size_of(found) > most_bytes:
        found.pop()
    return found


def figure_picture(figure: Any, caption: str) -> Picture:
    """Return a matplotlib figure as a chart of a page."""
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format="png")
    width, height = (round(side * 150) for side in figure.get_size_inches())
    return Picture(_address("image/png", content.getvalue()), width, height, caption)


def size_of(pictures: Sequence[Picture]) -> int:
    """Return how many bytes of a page pictures take."""
    return sum(len(picture.source) for picture in pictures)


def _photograph(path: Path, caption: str, longest: int, quality: int) -> Picture | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            caption = caption or str(image.info.get("Title", "")) or path.stem.replace("_", " ")
            shown = image.convert("RGB")
    except OSError:
        return None
    shown.thumbnail((longest, longest))
    content = io.BytesIO()
    shown.save(content, "WEBP", quality=quality)
    return Picture(_address("image/webp", content.getvalue()), *shown.size, caption, chart=False)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
