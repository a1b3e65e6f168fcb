"""A folder from which a fuzzing cluster runs."""
