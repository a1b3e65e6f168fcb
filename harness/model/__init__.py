"""The model as an executor."""
