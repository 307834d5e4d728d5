from typing import Any

MAX_COLUMNS: int

def copy(lengths: Any, m: int, T_x: int) -> bytes: ...
