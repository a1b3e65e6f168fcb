"""From a verdict to a finding, and what can be done with one."""
