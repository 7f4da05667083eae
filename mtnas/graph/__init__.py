"""One graph, many networks: the ONNX file of the largest network, from which any selection is cut without torch."""
