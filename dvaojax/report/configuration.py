"""Section with the configuration: settings that differ, then all settings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dvaojax.config import Config
from dvaojax.report.blocks import Section, folded, run_name, section, table
from dvaojax.report.contents import RunContents
from dvaojax.report.markup import Markup, element
from dvaojax.report.numbers import NOTHING
from dvaojax.run.description import config_to_json


def configuration(runs: Sequence[RunContents]) -> Section:
    """The settings that differ, then all settings of all runs.

    For several runs, the settings that differ between them; for a single run, those that differ
    from the defaults of `dvaojax train`.
    """
    settings = [_flat(run.config) for run in runs]
    keys = list(dict.fromkeys(key for config in settings for key in config))
    names = [run_name(index, run) for index, run in enumerate(runs)]
    if len(runs) > 1:
        differ = [key for key in keys if len({config.get(key) for config in settings}) > 1]
        first = _differences(
            differ, names, settings, otherwise="These runs have the same settings."
        )
    else:
        defaults = _flat(config_to_json(Config()))
        differ = [key for key in keys if settings[0][key] != defaults.get(key)]
        first = _differences(
            differ,
            [*names, "default"],
            [*settings, defaults],
            otherwise="All settings are the defaults of dvaojax train.",
        )
    rows = [
        [element("code", key), *(_value(config.get(key)) for config in settings)] for key in keys
    ]
    complete = table(["setting", *names], rows, kind="words settings", name="all settings")
    title = "Configuration: differences" if len(runs) > 1 else "Configuration"
    return section("configuration", title, "", first, folded(f"all {len(keys)} settings", complete))


def _differences(
    keys: Sequence[str],
    names: Sequence[str],
    settings: Sequence[Mapping[str, str]],
    *,
    otherwise: str,
) -> Markup:
    if not keys:
        return element("p", otherwise)
    rows = [
        [element("code", key), *(_value(config.get(key)) for config in settings)] for key in keys
    ]
    return table(["setting", *names], rows, kind="words settings", name="settings that differ")


def _value(text: str | None) -> Markup | str:
    return NOTHING if text is None else element("code", text)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys with JSON values; text has no quotes."""
    if isinstance(value, Mapping) and value:
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
