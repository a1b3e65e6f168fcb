"""A campaign as one HTML page: gathered from its directory, drawn, and filled into a template."""
