"""What the events of an op come to, in whatever order they come: for sides that are meant to differ in the order."""
