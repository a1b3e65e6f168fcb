"""New inputs: mutation and scenarios."""
