"""``python -m cyrnn``: the notebook replayed, checked and timed on this machine, then a real text."""

import os
import sys

from .demo.report import main

if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, a pager or head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
