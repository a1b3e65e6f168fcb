"""A finding's program as a KUnit test case in C, to be pasted into a mail: it needs kvm_pgtable.h and nothing else."""
