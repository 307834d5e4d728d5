"""The cells by name."""

from .cell cimport cell
from .gru cimport gru_after, gru_before
from .lstm cimport lstm
from .rnn cimport rnn


cdef inline cell cell_named(str name) except *:
    """The table row of a cell."""
    if name == "rnn":
        return rnn()
    if name == "lstm":
        return lstm()
    if name == "gru_before":
        return gru_before()
    if name == "gru_after":
        return gru_after()
    raise ValueError("not a cell")
