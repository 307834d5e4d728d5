"""What the kernels need of the machine and of Python, compiled once for all builds.

- ``cpu``: the processor's features
- ``buffers``: arrays and workspace from a pool of memory
- ``threads``: how many threads a call takes; interrupts
- ``lengths``: the lengths of a batch, copied and checked
"""
