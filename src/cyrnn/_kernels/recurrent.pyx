"""The entry points of everything recurrent, one compiled module, so that the time loop is compiled once.

- ``rnn.pxi``, ``lstm.pxi``, ``gru.pxi``: the passes over a sequence and over one step, forward and backward
- ``layer.pxi``: the passes of one layer of a network, in one direction or both
- ``stream.pxi``: a network prepared once and stepped many times
- ``pointwise.pxi``: the pointwise functions of the cells by themselves, for tests

The equations: cells/; the time loop: schedule/.
"""

include "rnn.pxi"
include "lstm.pxi"
include "gru.pxi"
include "layer.pxi"
include "stream.pxi"
include "pointwise.pxi"
