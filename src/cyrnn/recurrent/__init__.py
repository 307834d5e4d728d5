"""The cells: one step, sequences, streams."""
