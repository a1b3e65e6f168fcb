"""What an execution shows: its layout, events, TLB instructions, tables; and the protocol of what makes it."""
