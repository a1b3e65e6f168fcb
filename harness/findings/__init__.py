"""What is kept of a verdict, and how it reads."""
