"""From a kernel tree to an image: sources, compilers, declarations, images."""
