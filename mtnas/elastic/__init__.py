"""Any convolutional network, made elastic: groups of channels, one set of weights, every width as views of it."""
