"""Configurations and settings of earlier versions, in the form of this version."""

from collections.abc import Mapping, Sequence
from typing import Any

RENAMED_KEYS: Mapping[str, str] = {
    "aggregator_options": "aggregator.options",
    "shadows": "aggregator.shadows",
    "check_invariants": "aggregator.check_invariants",
}
"""Keys of earlier versions, and the keys of this version."""

_CLIPS = ("clip_low", "clip_high", "dual_clip")


def migrate(value: Any) -> Any:
    """A configuration as an earlier version recorded it, with the names of this version.

    Fields that were added later stay absent; they have their defaults where it is read.

    Args:
        value: JSON; anything but a recorded configuration of an earlier version is returned as it
            is.
    """
    if not isinstance(value, Mapping):
        return value
    return _migrate_aggregator(_migrate_loss(value))


def migrate_settings(settings: Sequence[str]) -> list[str]:
    """Settings `key=value` with the keys of this version."""
    pairs = [setting.partition("=") for setting in settings]
    return [RENAMED_KEYS.get(key, key) + equals + value for key, equals, value in pairs]


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
