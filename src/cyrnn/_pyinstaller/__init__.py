"""For PyInstaller, which finds the folder of the hook by the entry point ``pyinstaller40`` of the package."""

import os


def get_hook_dirs() -> list[str]:
    """Return the folder of the hook."""
    return [os.path.dirname(__file__)]
