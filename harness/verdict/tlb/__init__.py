"""What a TLB may still hold, as one side's events tell: stale entries, break-before-make, what an access may see."""
