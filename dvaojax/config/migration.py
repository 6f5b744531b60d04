"""Configurations and settings of earlier versions, in the form of this version."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dvaojax.allocation import SelectionConfig
from dvaojax.rewards.programs import Limits, ProgramsConfig

RENAMED_KEYS: Mapping[str, str] = {
    "aggregator_options": "aggregator.options",
    "shadows": "aggregator.shadows",
    "check_invariants": "aggregator.check_invariants",
}
"""Keys of earlier versions, and the keys of this version."""

_ADDED: Mapping[str, Any] = {
    "evaluation": {"every": 0},
    "early_stop": 0,
    "compilation_cache": "",
    "learning": {"gradient_cosines": 0},
    "lost_host_seconds": 60.0,
    "loss": {"mask_truncated": False},
    "rewards": {"concurrency": 64},
}
"""Keys that earlier versions lack, with the values that keep what those versions did."""

_CLIPS = ("clip_low", "clip_high", "dual_clip")


def migrate(value: Any) -> Any:
    """A configuration as an earlier version recorded it, in the form of this version.

    Args:
        value: JSON; anything but a recorded configuration of an earlier version is returned as it
            is.
    """
    if not isinstance(value, Mapping):
        return value
    migrated = _migrate_programs(_migrate_aggregator(_migrate_loss(value)))
    migrated = _migrate_hints(_migrate_selection(migrated))
    # Only a whole configuration lacks keys; a part of one is left as it is.
    return _with_added(migrated, _ADDED) if "task" in migrated else migrated


def migrate_settings(settings: Sequence[str]) -> list[str]:
    """Settings `key=value` with the keys of this version."""
    pairs = [setting.partition("=") for setting in settings]
    return [RENAMED_KEYS.get(key, key) + equals + value for key, equals, value in pairs]


def _with_added(config: Mapping[str, Any], added: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with the added keys; those of a section only where the section is."""
    missing = {
        name: entry
        for name, entry in added.items()
        if name not in config and not isinstance(entry, Mapping)
    }
    sections = {
        name: _with_added(config[name], entry)
        for name, entry in added.items()
        if isinstance(entry, Mapping) and isinstance(config.get(name), Mapping)
    }
    return {**config, **missing, **sections}


def _migrate_programs(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Adds the section `rewards.programs`, and the limit of a problem to the task `programs`."""
    rewards, task = config.get("rewards"), config.get("task")
    if not isinstance(rewards, Mapping) or not isinstance(task, Mapping):
        return config
    rewards = {**rewards, "programs": rewards.get("programs", dataclasses.asdict(ProgramsConfig()))}
    limits = task.get("limits")
    if task.get("class") == "dvaojax.tasks.programs:Programs" and isinstance(limits, Mapping):
        limits = {"problem_seconds": Limits().problem_seconds, **limits}
        task = {**task, "limits": limits}
    return {**config, "rewards": rewards, "task": task}


def _migrate_selection(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Adds the section `allocation.selection`."""
    allocation = config.get("allocation")
    if not isinstance(allocation, Mapping):
        return config
    default = dataclasses.asdict(SelectionConfig())
    return {**config, "allocation": {"selection": default, **allocation}}


def _migrate_hints(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Adds the section `hints`, and the levels of hints to the built-in task; they give none."""
    task = config.get("task")
    if not isinstance(task, Mapping):
        return config
    if str(task.get("class")).startswith("dvaojax.tasks.arithmetic"):
        task = {"hint_levels": 0, **task}
    return {"hints": {"objective": "", "success": 1.0, "rounds": 1}, **config, "task": task}


def _migrate_loss(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The clips were fields of the loss before losses had names and options."""
    loss = config.get("loss")
    if not isinstance(loss, Mapping) or "clip_low" not in loss:
        return config
    clips = {name: loss.get(name) for name in _CLIPS}
    options = [f"{name}={clip}" for name, clip in clips.items() if name != "dual_clip" or clip]
    others = {name: entry for name, entry in loss.items() if name not in clips}
    named = {"name": "clipped_surrogate", "options": options, "importance_cap": 0.0, **others}
    return {**config, "loss": named}


def _migrate_aggregator(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The aggregator was a name, with its options, shadows and checks as fields of the run."""
    name = config.get("aggregator")
    if not isinstance(name, str):
        return config
    section = {
        "name": name,
        "options": config.get("aggregator_options", []),
        "shadows": config.get("shadows", []),
        "check_invariants": config.get("check_invariants", False),
    }
    return {
        key: section if key == "aggregator" else entry
        for key, entry in config.items()
        if key not in RENAMED_KEYS
    }
