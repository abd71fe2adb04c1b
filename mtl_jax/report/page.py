"""The page: one HTML file that needs nothing else."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mtl_jax.analysis import memo
from mtl_jax.report import (
    charts,
    claim_pictures,
    claims,
    grouping,
    merge_tables,
    side_by_side,
    tables,
)
from mtl_jax.report.charts import Picture, export
from mtl_jax.report.charts.payload import as_json, of_picture
from mtl_jax.report.charts.script import javascript
from mtl_jax.report.charts.theme import theme
from mtl_jax.report.choice import account, cells_text
from mtl_jax.report.findings import BASELINE, Findings, correlations, find, setting_of
from mtl_jax.report.pictures import pictures
from mtl_jax.report.sentences import summary
from mtl_jax.report.sweep import sweep
from mtl_jax.report.text import counted, listed
from mtl_jax.storage import commands, disk
from mtl_jax.types import InputError

FOLDER = "report"
PAGE = "index.html"
SCRIPT = "page.js"
HEADINGS = {
    "effects": "Gaps task by task",
    "transfer": "Transfer",
    "optimization": "Optimization",
    "factors": "Factors",
    "conflict": "Conflict between tasks",
    "costs": "Costs and configuration",
}
"""Parts of a setting, behind the claims, by their anchors."""


class Shown(NamedTuple):
    """A picture in the page."""

    id: str
    title: str
    caption: str
    payload: Markup
    """JSON of its panels."""
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
    workdirs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    figures: Sequence[str] = (),
    refresh: float = 0,
) -> Path:
    """Write the report of one workdir or of several: a section for each.

    The page, ``index.html``, needs nothing else; it is written whole or not at all.

    Args:
      workdirs: of training runs, finished or not.
      out: folder of the report; ``report`` in the workdir if there is only one.
      figures: formats in which every figure is written beside the page: svg, png, pdf.
      refresh: seconds after which an open page loads itself anew; 0 for never.

    Returns:
      The page.

    Raises:
      InputError: a workdir holds no records, several come without ``out``, or an
        unknown format.
    """
    listed_dirs = [workdirs] if isinstance(workdirs, str | Path) else list(workdirs)
    paths = list(dict.fromkeys(map(Path, listed_dirs)))
    if not paths or (len(paths) > 1 and out is None):
        raise InputError(
            f"a report of {len(paths)} workdirs needs a folder: name it with --out."
        )
    export.check(figures)
    folder = Path(out) if out else paths[0] / FOLDER
    with memo.scope():
        return compose(find_all(paths), folder, figures=figures, refresh=refresh)


def compose(
    settings: Sequence[Findings],
    folder: Path,
    front: Sequence[Front] = (),
    figures: Sequence[str] = (),
    refresh: float = 0,
) -> Path:
    """Write the page of settings that were analysed.

    Args:
      settings: a section each.
      folder: of the page; made if it is not there.
      front: sections that come before everything else.
      figures: as of `write`.
      refresh: as of `write`.

    Raises:
      InputError: the folder cannot be written.
    """
    correlated = correlations(settings)
    judged = claims.verdicts(settings)
    looks = charts.looks(v for findings in settings for v in findings.variants)
    several = len(settings) > 1
    prefixes = [f"{_slug(f.setting)}-" if several else "" for f in settings]
    drawn = [
        _pictures(findings, looks, correlated, prefix)
        for findings, prefix in zip(settings, prefixes, strict=True)
    ]
    of_claims = list(claim_pictures.pictures(judged, looks))
    sections = [
        _section(findings, looks, correlated, prefix, its)
        for findings, prefix, its in zip(settings, prefixes, drawn, strict=True)
    ]
    top = claims.section(judged) | {"pictures": {p.id: _shown(p) for p in of_claims}}
    first = [
        {"id": part.id, "title": part.title, "sentences": part.sentences}
        | {"tables": [table for table in part.tables if table.rows]}
        | {"pictures": [_shown(picture) for picture in part.pictures]}
        for part in front
    ]
    html = _render(first, top, sections, settings, looks, correlated, refresh)
    all_of = [picture for part in front for picture in part.pictures]
    all_of += [*of_claims, *(picture for its in drawn for picture in its)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Names of folders that the locale could not read are UTF-8 all the same.
        _write(folder / PAGE, html.encode(errors="surrogateescape"))
        for picture in all_of:
            for kind in figures if any(panel.spec for panel in picture.panels) else ():
                _write(folder / f"{picture.id}.{kind}", export.render(picture, kind))
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {folder}: {error.strerror or error}."
        ) from error
    return folder / PAGE


def _pictures(
    findings: Findings, looks: Mapping[str, charts.Look], correlated: tuple, prefix: str
) -> list[Picture]:
    """Pictures of a setting; their names begin with the prefix."""
    made = [*sweep(findings, looks), *pictures(findings, looks, correlated)]
    return [picture._replace(id=prefix + picture.id) for picture in made]


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


def _shown(picture: Picture) -> Shown:
    text = as_json(of_picture(picture))
    # A name of a task must not end the script that it stands in.
    payload = Markup(text.replace("<", "\\u003c"))
    return Shown(picture.id, picture.title, picture.caption, payload, picture.folded)


def _section(
    findings: Findings,
    looks: Mapping[str, charts.Look],
    correlated: tuple,
    prefix: str,
    drawn: Sequence[Picture],
) -> dict[str, Any]:
    """Collect what the template needs of a setting."""
    made = [
        tables.tasks(findings, looks),
        tables.delta_m(findings, looks),
        tables.fronts(findings, looks),
        *merge_tables.merging(findings, looks),
        grouping.ranked(findings.ranking),
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
        "pictures": {p.id.removeprefix(prefix): _shown(p) for p in drawn},
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
    refresh: float,
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
        refresh=refresh,
        headings=HEADINGS,
        beside=side_by_side.tables(settings, looks),
        title="mtl_jax: " + listed([findings.setting for findings in settings]),
        front=front,
        claims=top,
        sections=sections,
        together=together,
        single=len(settings) == 1,
        seeds=sorted({s for f in settings for its in f.seeds.values() for s in its}),
        several_tasks=any(len(findings.tasks) > 1 for findings in settings),
        themes=Markup(json.dumps({"light": theme(), "dark": theme(dark=True)})),
        vega=Markup(javascript()),
        script=Markup((Path(__file__).parent / SCRIPT).read_text()),
    )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "setting"


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with disk.whole(path) as file:
        file.write(content)
