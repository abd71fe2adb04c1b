"""Theme of charts: fonts, lines and colours, for light and for dark paper."""

from typing import Any

FONT = "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"


def theme(*, dark: bool = False) -> dict[str, Any]:
    """Return the configuration of Vega-Lite; black and white change places in the dark.

    >>> theme()["axis"]["labelColor"], theme(dark=True)["axis"]["labelColor"]
    ('#333333', '#d4d4d4')
    """
    ink, line, faint = (
        ("#d4d4d4", "#777777", "#3a3a3a") if dark else ("#333333", "#8a8a8a", "#e6e6e6")
    )
    return {
        "background": "transparent" if dark else "white",
        "font": FONT,
        "padding": 4,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink, "titleColor": ink, "domainColor": line,
            "tickColor": line, "gridColor": faint, "labelFontSize": 11,
            "titleFontSize": 11.5, "titleFontWeight": "normal", "titlePadding": 5,
            "labelFlush": True, "tickSize": 4,
        },
        "legend": {
            "labelColor": ink, "titleColor": ink, "labelFontSize": 11,
            "titleFontSize": 11.5, "titleFontWeight": "normal",
        },
        "title": {
            "anchor": "start", "frame": "group", "fontSize": 12.5, "color": ink,
            "subtitleColor": ink, "subtitleFontSize": 11, "offset": 6,
        },
        "text": {"color": ink, "fontSize": 11},
        "scale": {"clamp": False},
    }  # fmt: skip
