"""Weights and files of other libraries: PyTorch, Keras, ONNX."""
