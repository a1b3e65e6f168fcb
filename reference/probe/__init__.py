"""What an image and a running kernel tell of themselves: symbols, lines, coverage."""
