"""Every cell in float64 and in float32, for the bodies that serve both."""

import pytest
from cells import ROWS

each_row = pytest.mark.parametrize("cell", ROWS, ids=[cell.id for cell in ROWS])
