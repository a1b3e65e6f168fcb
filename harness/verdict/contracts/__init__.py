"""What the kernel promises, op by op: contracts, each with its source, checked on one side's observation alone."""
