"""A program's events for other tools: what one side did at its boundary, as they read it."""
