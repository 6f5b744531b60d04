"""Addresses of servers in a configuration, which is written to files and messages."""

import urllib.parse


def check_address(key: str, url: str, *, example: str, secret: str) -> None:
    """Checks the address of a server; messages quote it only if it contains no secret.

    Args:
        key: the setting, for messages.
        url: its value.
        example: a valid value.
        secret: what to do instead of writing a password or a key into the address.

    Raises:
        ValueError: it is not an HTTP address, or contains a password or a query.
    """
    if "@" in url or "?" in url or "#" in url:
        raise ValueError(
            f"{key} contains '@', '?' or '#': leave out user names, passwords and keys, {secret}"
        )
    try:
        parts = urllib.parse.urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise ValueError(f"{key}={url!r} is not an address such as {example}")
