"""``python -m cyrnn``: the notebook's test cells, plain NumPy to compare with, the report."""
