"""The page: one HTML file that needs nothing else, and its figures as files."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mtl_jax.report import claim_pictures, claims, plots, tables
from mtl_jax.report.choice import account, cells_text
from mtl_jax.report.findings import BASELINE, Findings, correlations, find, setting_of
from mtl_jax.report.pictures import Picture, pictures
from mtl_jax.report.sentences import summary
from mtl_jax.report.sweep import sweep
from mtl_jax.report.text import counted, listed
from mtl_jax.storage import commands, disk
from mtl_jax.types import InputError

FOLDER = "report"
PAGE = "index.html"
LARGE = 150_000
"""Bytes from which a picture is shown in pixels rather than as SVG."""
MOST_NARROW = 1
"""Settings up to which pictures are there twice: for a desk and for a phone."""


class Shown(NamedTuple):
    """A picture in the page."""

    id: str
    title: str
    caption: str
    file: str
    """Its name without ending."""
    wide: str
    """Data URI."""
    narrow: str
    """Data URI; empty where there is none."""
    width: int
    folded: bool


class Front(Protocol):
    """Section in front of the general report."""

    @property
    def id(self) -> str:
        """Return its anchor."""
        ...

    @property
    def title(self) -> str:
        """Return its heading."""
        ...

    @property
    def sentences(self) -> Sequence[str]:
        """Return what it finds."""
        ...

    @property
    def pictures(self) -> Sequence[Picture]:
        """Return its figures."""
        ...

    @property
    def tables(self) -> Sequence[tables.Table]:
        """Return its tables."""
        ...


def write(
    workdirs: str | Path | Sequence[str | Path], out: str | Path | None = None
) -> Path:
    """Write the report of one workdir or of several: a section for each.

    The page is ``index.html``; figures lie beside it as PNG and SVG. Every file is
    written whole or not at all.

    Args:
      workdirs: of training runs, finished or not.
      out: folder of the report; ``report`` in the workdir if there is only one.

    Returns:
      The page.

    Raises:
      InputError: a workdir holds no records, or several come without ``out``.
    """
    listed_dirs = [workdirs] if isinstance(workdirs, str | Path) else list(workdirs)
    paths = list(dict.fromkeys(map(Path, listed_dirs)))
    if not paths or (len(paths) > 1 and out is None):
        raise InputError(
            f"a report of {len(paths)} workdirs needs a folder: name it with --out."
        )
    folder = Path(out) if out else paths[0] / FOLDER
    return compose(find_all(paths), folder)


def compose(
    settings: Sequence[Findings], folder: Path, front: Sequence[Front] = ()
) -> Path:
    """Write the page of settings that were analysed.

    Args:
      settings: a section each.
      folder: of the page and its figures; made if it is not there.
      front: sections that come before everything else.

    Raises:
      InputError: the folder cannot be written.
    """
    correlated, judged = (
        correlations(settings),
        claims.verdicts(settings),
    )
    looks = plots.looks(v for findings in settings for v in findings.variants)
    sections = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for findings in settings:
            prefix = f"{_slug(findings.setting)}-" if len(settings) > 1 else ""
            shown = [
                _shown(folder, prefix, picture, len(settings) <= MOST_NARROW)
                for picture in (
                    *sweep(findings, looks),
                    *pictures(findings, looks, correlated),
                )
            ]
            sections.append(_section(findings, looks, correlated, prefix, shown))
        shown = [
            _shown(folder, "", picture, MOST_NARROW > 0)
            for picture in claim_pictures.pictures(judged, looks)
        ]
        top = claims.section(judged) | {"pictures": {p.id: p for p in shown}}
        first = [
            {"id": part.id, "title": part.title, "sentences": part.sentences}
            | {"tables": [table for table in part.tables if table.rows]}
            | {"pictures": [_shown(folder, "", p, True) for p in part.pictures]}
            for part in front
        ]
        html = _render(first, top, sections, settings, looks, correlated)
        # Names of folders that the locale could not read are UTF-8 all the same.
        _write(folder / PAGE, html.encode(errors="surrogateescape"))
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {folder}: {error.strerror or error}."
        ) from error
    return folder / PAGE


def find_all(paths: Sequence[Path]) -> list[Findings]:
    """Analyse workdirs; settings of one name get their workdir's added.

    Raises:
      InputError: a workdir holds no records.
    """
    for path in paths:
        commands.check_run(path)
    names = [setting_of(path) for path in paths]
    return [
        find(path, f"{name} ({_name(path, paths)})" if names.count(name) > 1 else "")
        for path, name in zip(paths, names, strict=True)
    ]


def _name(path: Path, paths: Sequence[Path]) -> str:
    """The last part of a path in which it differs from all others, or the whole."""
    for end in range(1, len(path.parts)):
        others = [other.parts[-end:][:1] for other in paths]
        if others.count(path.parts[-end:][:1]) == 1:
            return path.parts[-end]
    return str(path)


def _shown(folder: Path, prefix: str, picture: Picture, twice: bool) -> Shown:
    figure = picture.draw(narrow=False)
    svg, png = plots.svg(figure), plots.png(figure)
    name = f"{prefix}{picture.id}"
    _write(folder / f"{name}.svg", svg)
    _write(folder / f"{name}.png", png)
    narrow = ""
    if twice:
        small = picture.draw(narrow=True)
        narrow = _uri(plots.svg(small), lambda: plots.png(small))
    return Shown(
        prefix + picture.id,
        picture.title,
        picture.caption,
        name,
        _uri(svg, lambda: png),
        narrow,
        round(figure.get_figwidth() * plots.PIXELS_PER_INCH),
        picture.folded,
    )


def _uri(svg: bytes, png: Any) -> str:
    """Encode a picture for the page itself: as SVG, unless that is large."""
    kind, content = ("svg+xml", svg) if len(svg) < LARGE else ("png", png())
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _section(
    findings: Findings,
    looks: Mapping[str, plots.Look],
    correlated: tuple,
    prefix: str,
    shown: Sequence[Shown],
) -> dict[str, Any]:
    """Collect what the template needs of a setting."""
    made = [
        tables.tasks(findings, looks),
        tables.delta_m(findings, looks),
        tables.gaps(findings, looks),
        tables.factors(_of(correlated[0], findings.setting), looks),
        tables.conflict([_of(t, findings.setting) for t in correlated[1:]], looks),
        tables.diverged(findings, looks),
    ]
    made += [tables.candidates(findings, looks)] if findings.choice.several else []
    return {
        "id": _slug(findings.setting),
        "prefix": prefix,
        "setting": findings.setting,
        "facts": _facts(findings),
        "variants": [
            (looks[v], counted(len(s), "seed")) for v, s in findings.seeds.items()
        ],
        "sentences": summary(findings, correlated[0], [correlated[1], correlated[2]]),
        "seeds": findings.seeds,
        "pictures": {p.id.removeprefix(prefix): p for p in shown},
        "tables": {table.id: table for table in made if table.rows},
        "has_baseline": BASELINE in findings.variants,
        "config": {name: _plain(value) for name, value in findings.config.items()},
        "swept": findings.choice.swept,
        "sessions": findings.sessions,
    }  # fmt: skip


def _of(table: Any, setting: str) -> Any:
    return table[table["setting"] == setting] if len(table) else table


def _facts(findings: Findings) -> list[tuple[str, str]]:
    """List what the head of a section says of the run."""
    planned = findings.config.get("steps", findings.step)
    steps = f"{findings.step:,} of {planned:,}"
    if findings.step < planned:
        sound = findings.table.places and not findings.table.diverged.all()
        steps += ": unfinished, records so far" if sound else ": all runs diverged"
    seeds = sorted({seed for seeds in findings.seeds.values() for seed in seeds})
    pairs = {
        v: cells_text(v, cells, findings.choice) for v, cells in findings.cells.items()
    }
    rate = next(iter(pairs.values()))
    if len(set(pairs.values())) > 1:
        rate = "\n".join(f"{variant}: {pair}" for variant, pair in pairs.items())
    if any(len(cells) > 1 for v, cells in findings.cells.items() if v != BASELINE):
        rate += "\nA task is shown in the runs that were chosen for it"
    chosen = account(findings.choice) if findings.choice.several else ""
    facts = [
        ("tasks", f"{len(findings.tasks)}: {listed(findings.tasks)}"),
        ("seeds", f"{len(seeds)}: {listed([str(seed) for seed in seeds])}"),
        ("steps", steps),
        ("learning rate, batch size", rate),
        ("chosen", chosen),
        ("workdir", str(findings.workdir)),
    ]
    if findings.sessions:
        last = findings.sessions[-1]
        versions = last.get("versions", {})
        known = [f"{k} {v}" for k, v in versions.items() if v]
        devices = last.get("devices", [])
        kinds = [f"{devices.count(d)} × {d}" for d in dict.fromkeys(devices)]
        facts += [
            (
                "begun",
                min(s.get("started", "") for s in findings.sessions).replace("T", " "),
            ),
            ("hardware", ", ".join([*kinds, last.get("processor") or ""]).strip(", ")),
            ("versions", ", ".join([f"Python {last.get('python', '')}", *known])),
            ("git revision", _revision(last.get("git_revision"))),
        ]
    return [(name, text) for name, text in facts if text]


def _revision(text: str | None) -> str:
    if not text:
        return "unknown"
    changed = " with changes that were not committed" * text.endswith("+")
    return text[:12] + changed


def _plain(value: Any) -> str:
    if isinstance(value, float) and value != value:
        return "not a number"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return str(value) if value != "" else "none"


def _render(
    front: Sequence[dict],
    top: dict,
    sections: Sequence[dict],
    settings: Sequence[Findings],
    looks: Mapping,
    correlated: tuple,
) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    together = []
    if len(settings) > 1:
        together = [
            table
            for table in (
                tables.factors(correlated[0], looks),
                tables.conflict(list(correlated[1:]), looks),
            )
            if table.rows
        ]
    return environment.get_template("page.html.jinja").render(
        title="mtl_jax: " + listed([findings.setting for findings in settings]),
        front=front,
        claims=top,
        sections=sections,
        together=together,
        single=len(settings) == 1,
    )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "setting"


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with disk.whole(path) as file:
        file.write(content)
