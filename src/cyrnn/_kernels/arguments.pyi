from typing import Any

import numpy as np
from numpy.typing import NDArray

def lengths(value: Any, m: int, T_x: int) -> tuple[NDArray[np.intp], int]: ...
