"""What two observations say about the sides, and what one says about its own."""
