"""Tonnes emitted against tonnes retired, drawn with pygal: SVG pictures without scripts that load nothing from elsewhere."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from airflow_provider_carbonmark.api.errors import shorten
from airflow_provider_carbonmark.api.markup import writable

# The two bars differ in brightness: they stay apart on a grey print, and for people who can't tell green from grey.
_LIGHT = {"text": "#1c221e", "lines": "#cfd4ce", "bars": ("#9aa39d", "#14663d")}
_DARK = {"text": "#e7ebe8", "lines": "#444b46", "bars": ("#68716b", "#54c98c")}
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_WIDE, _NARROW = 920, 340
_LONGEST_LABEL = {_WIDE: 36, _NARROW: 14}
_ON_PHONE = "(max-width: 40rem)"
_IN_THE_DARK = "(prefers-color-scheme: dark)"


@dataclass(frozen=True)
class Bars:
    """A pair of bars, None where nothing is known; and what stands beside it: a month, an entity."""

    label: str
    emitted_tonnes: Decimal | None
    retired_tonnes: Decimal | None


def picture(bars: Sequence[Bars], alt: str, *, lying: bool = False) -> Markup:
    """
    Draw a chart for a screen, wide or narrow, light or dark.

    :param alt: what the chart shows, for those who don't see it.
    :param lying: whether the bars lie instead of stand, which leaves room for long labels.
    :return: a ``<picture>`` for any page whose content security policy has ``img-src data:``.
    """
    variants = (
        (f"{_IN_THE_DARK} and {_ON_PHONE}", _NARROW, True),
        (_IN_THE_DARK, _WIDE, True),
        (_ON_PHONE, _NARROW, False),
    )
    sources = [
        Markup('<source media="{}" type="image/svg+xml" srcset="{}">').format(
            media, _data_uri(svg(bars, width=width, is_dark=is_dark, lying=lying))
        )
        for media, width, is_dark in variants
    ]
    return Markup("<picture>{}{}</picture>").format(Markup().join(sources), image(bars, alt, lying=lying))


def image(bars: Sequence[Bars], alt: str, *, lying: bool = False) -> Markup:
    """
    Draw a chart for paper: browsers print a ``<picture>`` as it is on the screen, be that dark.

    :return: an ``<img>``; otherwise as :func:`picture`.
    """
    return Markup('<img src="{}" alt="{}">').format(_data_uri(svg(bars, lying=lying)), alt)


def svg(bars: Sequence[Bars], *, width: int = _WIDE, is_dark: bool = False, lying: bool = False) -> bytes:
    """
    Draw a chart; the same bars give the same bytes.

    :param width: pixels, 920 or 340: text stays readable.
    :param is_dark: whether it is for a dark page. The background is transparent.
    """
    pygal = _pygal()
    is_tight = width == _NARROW and not lying and any(len(pair.label) > 3 for pair in bars)
    chart = (pygal.HorizontalBar if lying else pygal.Bar)(
        width=width,
        height=110 + 44 * len(bars) if lying else 320,
        style=_style(_DARK if is_dark else _LIGHT, 11 if width == _NARROW else 14),
        explicit_size=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        legend_box_size=14,
        margin=6,
        max_scale=6,
        truncate_label=-1,
        truncate_legend=-1,
        x_label_rotation=90 if is_tight else 0,
        value_formatter=_tonnes,
        js=(),
    )
    chart.uuid = "offsets"  # instead of a random one
    chart.add_xml_filter(_only_the_drawing)
    chart.add_xml_filter(_with_all_lengths)
    drawn = bars[::-1] if lying else bars  # pygal stacks lying bars from the bottom up
    chart.x_labels = [_label(pair.label, _LONGEST_LABEL[width]) for pair in drawn]
    chart.add("Emitted", [_plotted(pair.emitted_tonnes) for pair in drawn])
    chart.add("Retired", [_plotted(pair.retired_tonnes) for pair in drawn])
    drawing: bytes = chart.render()
    return drawing


def _pygal() -> Any:
    import pygal  # type: ignore[import-untyped]  # late: only who draws a chart pays for it

    # With lxml installed, as the Amazon provider has it, pygal would build elements of another kind, which are written as other bytes.
    pygal.etree.etree.to_etree()
    # Its finder for plugins is of a kind that Python 3.12 and later pass over, and at which 3.11 warns whenever an import fails.
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]
    return pygal


def _style(inks: dict[str, Any], label_size: int) -> Any:
    sizes = dict.fromkeys(("label_font_size", "major_label_font_size"), label_size)
    return _pygal().style.Style(
        background="transparent",
        plot_background="transparent",
        foreground=inks["text"],
        foreground_strong=inks["text"],
        foreground_subtle=inks["text"],
        guide_stroke_color=inks["lines"],
        major_guide_stroke_color=inks["lines"],
        guide_stroke_dasharray="1,0",
        major_guide_stroke_dasharray="1,0",
        font_family=_FONT,
        opacity="1",
        stroke_opacity="0",
        colors=inks["bars"],
        legend_font_size=14,
        **sizes,
    )


def _only_the_drawing(root: Any) -> Any:
    """Take out scripts, pygal's comments (one holds today's date) and what only scripts would show."""
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.rpartition("}")[2] in ("script", "title", "desc"):
                parent.remove(child)
    return root


def _with_all_lengths(root: Any) -> Any:
    """Give bars of nothing a length, which pygal leaves out and SVG 1.1 demands."""
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "rect":
            for name in ("width", "height"):
                element.attrib.setdefault(name, "0")
    return root


def _label(text: str, length: int) -> str:
    return shorten(writable(text), length)


def _plotted(tonnes: Decimal | None) -> float | None:
    return None if tonnes is None else float(tonnes)


def _tonnes(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1 else f"{value:,.10g}"


def _data_uri(drawing: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode()}"
