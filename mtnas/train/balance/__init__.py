"""How the losses of the tasks become one number: one method per file."""
