/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel configuration that hosted files are compiled with. The granule is a build choice: image.py passes
 * S2FUZZ_PAGE_SHIFT. Without PHYS_ADDR_T_64BIT everything still compiles, with a 32-bit phys_addr_t: checks.c asserts. */
#define CONFIG_64BIT 1
#define CONFIG_ARM64 1
#define CONFIG_MMU 1
#define CONFIG_SMP 1
#define CONFIG_HAVE_ARCH_COMPILER_H 1
#define CONFIG_PHYS_ADDR_T_64BIT 1
#define CONFIG_ARM64_HW_AFDBM 1
#define CONFIG_ARM64_VA_BITS 48
#define CONFIG_ARM64_PA_BITS 48
#define CONFIG_ARM64_PAGE_SHIFT S2FUZZ_PAGE_SHIFT
#define CONFIG_PAGE_SHIFT S2FUZZ_PAGE_SHIFT
#define CONFIG_ARM64_CONT_PTE_SHIFT 4
#define CONFIG_ARM64_CONT_PMD_SHIFT 4
#define CONFIG_PGTABLE_LEVELS 4
#if S2FUZZ_PAGE_SHIFT == 12
#define CONFIG_ARM64_4K_PAGES 1
#elif S2FUZZ_PAGE_SHIFT == 14
#define CONFIG_ARM64_16K_PAGES 1
#elif S2FUZZ_PAGE_SHIFT == 16
#define CONFIG_ARM64_64K_PAGES 1
#endif
/* A program's machine says whether CONFIG_ARM64_PA_BITS_52 is set, so IS_ENABLED() of it must be an expression. Of a
 * module, linux/kconfig.h takes what follows the comma here. */
#define CONFIG_ARM64_PA_BITS_52_MODULE s2fuzz_switch
#define __ARG_PLACEHOLDER_s2fuzz_switch 0, s2fuzz_machine.pa_bits_52 &
#define CONFIG_CC_IS_CLANG 1
#define CONFIG_AS_HAS_LSE_ATOMICS 1
#define CONFIG_NR_CPUS 8
#define CONFIG_LOG_BUF_SHIFT 12
#define CONFIG_PRINTK 1
#define CONFIG_HZ 250
#define CONFIG_MESSAGE_LOGLEVEL_DEFAULT 4
#define CONFIG_CONSOLE_LOGLEVEL_DEFAULT 7
#define CONFIG_CONSOLE_LOGLEVEL_QUIET 4
/* What pr_debug() says is kept too. */
#define DEBUG 1
