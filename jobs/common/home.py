"""The home folder, without which Ray cannot even be imported. This module imports nothing that takes long."""

from pathlib import Path

NOT_SET = "HOME: not set, and this user has none; set it to a writable folder, as in HOME=/tmp/me"


def folder() -> Path:
    """Where it is.

    Raises:
        OSError: nobody knows; so it is in containers that were started with a number as their user.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise OSError(NOT_SET) from None


def end_without() -> None:
    """End the program in one line if there is none."""
    try:
        folder()
    except OSError as error:
        print(f"Error: {error}")
        raise SystemExit(1) from None
