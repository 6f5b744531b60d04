"""What runs were asked to do: where they differ, and all of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dvaojax.config import Config
from dvaojax.report.blocks import Section, folded, run_name, section, table
from dvaojax.report.contents import Contents
from dvaojax.report.markup import Markup, element
from dvaojax.report.numbers import NOTHING
from dvaojax.run import directory as run_directory


def configuration(runs: Sequence[Contents]) -> Section:
    """The settings that differ, then every setting of every run.

    Of several runs those that differ are told first; of one run, what it sets otherwise than
    `dvaojax train` alone does.
    """
    settings = [_flat(run.config) for run in runs]
    every = list(dict.fromkeys(key for of in settings for key in of))
    names = [run_name(place, run) for place, run in enumerate(runs)]
    if len(runs) > 1:
        differ = [key for key in every if len({of.get(key) for of in settings}) > 1]
        first = _differences(differ, names, settings, nothing="These runs have the same settings.")
    else:
        plain = _flat(run_directory.config_to_json(Config()))
        differ = [key for key in every if settings[0][key] != plain.get(key)]
        first = _differences(
            differ,
            [*names, "by default"],
            [*settings, plain],
            nothing="Every setting is as in dvaojax train without options.",
        )
    rows = [[element("code", key), *(_value(of.get(key)) for of in settings)] for key in every]
    whole = table(["setting", *names], rows, kind="words settings", name="all settings")
    title = "Configuration: differences" if len(runs) > 1 else "Configuration"
    return section("configuration", title, "", first, folded(f"all {len(every)} settings", whole))


def _differences(
    keys: Sequence[str],
    names: Sequence[str],
    settings: Sequence[Mapping[str, str]],
    *,
    nothing: str,
) -> Markup:
    if not keys:
        return element("p", nothing)
    rows = [[element("code", key), *(_value(of.get(key)) for of in settings)] for key in keys]
    return table(["setting", *names], rows, kind="words settings", name="settings that differ")


def _value(text: str | None) -> Markup | str:
    return NOTHING if text is None else element("code", text)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys; what is no object is written as JSON, text without quotes."""
    if isinstance(value, Mapping) and value:
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
