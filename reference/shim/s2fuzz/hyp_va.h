/* SPDX-License-Identifier: GPL-2.0-only */
/* Addresses of the kernel and of hyp. Where KVM runs without VHE, hyp code finds the kernel's memory at other addresses, and
 * has to convert each pointer that it is given: kern_hyp_va() masks it, and inserts a tag. Here all runs at the addresses of
 * hyp; a pointer that is given as the kernel would give it faults until it is converted (no table of EL2's maps it, and none
 * can). To convert a second time changes nothing, for all memory lies where the tag says. */
#ifndef S2FUZZ_HYP_VA_H
#define S2FUZZ_HYP_VA_H

#define S2FUZZ_HYP_VA_MASK 0x3fffffff
#define S2FUZZ_HYP_VA_TAG 0x40000000
#define S2FUZZ_KERNEL_VA_TAG 0xffff800000000000ul

/* A pointer as the kernel knows it. */
#define s2fuzz_kernel_va(pointer) ((__typeof__(pointer))(((u64)(pointer) & S2FUZZ_HYP_VA_MASK) | S2FUZZ_KERNEL_VA_TAG))

#endif
