"""The fuzzing process and what feeds it."""
