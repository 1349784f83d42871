"""The draft model: its files, its graph in ONNX Runtime, its key/value cache."""
