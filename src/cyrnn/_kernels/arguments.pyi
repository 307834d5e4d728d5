import numpy as np
from numpy.typing import NDArray

def total(lengths: NDArray[np.intp], m: int, T_x: int) -> int: ...
