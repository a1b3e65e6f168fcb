"""What both sides share: operations and programs, the machine, executors, observations, comparison, findings."""
