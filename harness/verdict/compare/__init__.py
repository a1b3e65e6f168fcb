"""Two observations of one program, compared tier by tier: a module for each tier."""
