"""What programs reach, of the kernel and of the model."""
