"""The stages of a run: each wires lower rooms together and writes its own folder."""
