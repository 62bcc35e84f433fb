"""The registry and the cache go in, tables to print come out."""

from __future__ import annotations

import json

from dfdet.console import Table
from dfdet.weights import cache
from dfdet.weights.layouts import LAYOUTS
from dfdet.weights.registry import PUBLISHED, Published, named


def _input(entry: Published) -> str:
    frames = entry.data.get("clip", {}).get("frames", 1)
    return f"{frames} frame{'s' if frames > 1 else ''}, {entry.size} px"


def overview_of() -> list[Table]:
    """What is published, and what else is in the cache."""
    here = {kept.name: kept for kept in cache.all_kept()}
    table = Table("Published weights", ["name", "trained on", "input", "licence", "here", "published"])
    for entry in PUBLISHED.values():
        told = "yes" if entry.name in here else "by hand" if not entry.url else "no"
        licence = entry.licence.split(" (")[0]
        table.add(entry.name, entry.corpus, _input(entry), licence, told, entry.figures or None)
    table.notes += [
        "dfdet weights get NAME fetches one; dfdet weights list NAME tells all of it, --json FILE of all of them",
        "use: dfdet predict FILES --weights NAME, dfdet fit --init_from NAME",
        f"layouts that --layout takes: {', '.join(LAYOUTS)}",
    ]
    own = Table("Taken in by you", ["name", "detector", "layout", "from"])
    for name, kept in here.items():
        if name not in PUBLISHED:
            detector = LAYOUTS[kept.layout].detector.rsplit(".", 1)[-1] if kept.layout in LAYOUTS else None
            own.add(name, detector, kept.layout or None, kept.source or None)
    return [table, own] if own.rows else [table]


def _facts(entry: Published) -> dict[str, str | None]:
    layout, kept = LAYOUTS[entry.layout], cache.kept(entry.name)
    mean, std = entry.statistics
    return {
        "name": entry.name,
        "detector": layout.detector,
        "init_args": json.dumps(layout.init_args),
        "trained on": entry.corpus,
        "input": f"{_input(entry)}, mean {mean}, std {std}",
        "data": json.dumps(entry.data),
        "output as published": entry.convention,
        "published": entry.figures or None,
        "source": entry.source,
        "licence": entry.licence,
        "file": entry.file,
        "url": entry.url or None,
        "page": entry.page,
        "sha256": entry.sha256 or None,
        "sha256 first seen": cache.pins().get(entry.name),
        "layout": entry.layout,
        "here": str(kept.path) if kept is not None else None,
    }


def facts() -> Table:
    """Everything that is known of all of them, a row each."""
    rows = [_facts(entry) for entry in PUBLISHED.values()]
    return Table("Published weights", list(rows[0]), [list(row.values()) for row in rows])


def one(name: str) -> Table:
    """Everything that is known of one, a row a fact.

    Raises:
        UserError: There is none of this name.
    """
    if name not in PUBLISHED and cache.kept(name) is not None:
        return taken(name)
    table = Table(f"Weights {name}", ["fact", "value"])
    for fact, value in _facts(named(name)).items():
        table.add(fact, value)
    return table


def taken(name: str) -> Table:
    """What the cache holds under a name."""
    kept = cache.kept(name)
    assert kept is not None
    table = Table(f"Weights {name}", ["fact", "value"])
    layout = LAYOUTS[kept.layout]
    for fact, value in (
        ("name", name),
        ("detector", layout.detector),
        ("init_args", json.dumps(layout.init_args)),
        ("from", kept.source),
        ("sha256", kept.sha256),
        ("layout", f"{kept.layout}: {layout.about}"),
        ("output", "none: something to start from" if layout.start else "one logit, > 0 says fake"),
        ("here", str(kept.path)),
    ):
        table.add(fact, value)
    if name not in PUBLISHED and (same := [e.name for e in PUBLISHED.values() if e.layout == kept.layout]):
        table.notes.append(f"if it is one of the published ones, import it with --name: {', '.join(same)}")
    return table
