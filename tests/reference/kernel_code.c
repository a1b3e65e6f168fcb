/* Ordinary kernel code, as a patch for debugging or a new feature would have it: the test puts it into a tree's
 * pgtable.c, and has each walk call everything(). What it does to anything but its own variables is nothing. */
#include <linux/bits.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/kvm_host.h>

struct item {
	struct list_head link;
	u64 value;
};

static LIST_HEAD(items);
static DEFINE_SPINLOCK(spin);
static DEFINE_RAW_SPINLOCK(raw);
static DEFINE_RWLOCK(rw);
static DEFINE_MUTEX(mutex);
static DEFINE_PER_CPU(u64, walks);
static u64 plain_word;

static void messages(void)
{
	pr_info("info %d %u %ld %lu\n", -1, 1u, -2l, 2ul);
	pr_err("err %x %#x %08x %lx %llx\n", 0xab, 0xab, 0xab, 0xabcul, 0xabcdull);
	pr_warn("warn %s|%8s|%-8s|%.2s\n", "text", "right", "left", "cut");
	pr_notice("notice %c%%\n", 'c');
	pr_debug("debug %016llx\n", 0x1234ull);
	pr_err_once("err once\n");
	pr_info_once("info once\n");
	pr_warn_ratelimited("ratelimited\n");
	printk("no level %5d|%-5d|%05d\n", 42, 42, 42);
	printk(KERN_INFO "with level %p %px %pK %pS\n", (void *)0x10, (void *)0x20, (void *)0x30, (void *)0x40);
	printk_once(KERN_ERR "once\n");
	trace_printk("trace %zu %*d\n", sizeof(u64), 4, 7);
	kvm_err("err %i\n", 3);
	kvm_info("info\n");
	kvm_debug("debug\n");
	WARN(0, "never %d", 1);
	WARN_ONCE(0, "never");
	WARN_ON(0);
	dump_stack();
}

static void sleep(void)
{
	might_sleep();
	cond_resched();
	mutex_lock(&mutex);
	lockdep_assert_held(&mutex);
	mutex_unlock(&mutex);
}

static void locks(void)
{
	unsigned long flags;

	if (!rcu_read_lock_held()) /* a walk that others may change tables under */
		sleep();
	spin_lock(&spin);
	lockdep_assert_held(&spin);
	assert_spin_locked(&spin);
	spin_unlock(&spin);
	lockdep_assert_not_held(&spin);
	spin_lock_irqsave(&spin, flags);
	lockdep_assert_irqs_disabled();
	raw_spin_lock(&raw);
	raw_spin_unlock(&raw);
	spin_unlock_irqrestore(&spin, flags);
	lockdep_assert_irqs_enabled();
	raw_spin_lock_irqsave(&raw, flags);
	raw_spin_unlock_irqrestore(&raw, flags);
	read_lock(&rw);
	lockdep_assert_held_read(&rw);
	read_unlock(&rw);
	write_lock(&rw);
	lockdep_assert_held_write(&rw);
	write_unlock(&rw);
	preempt_disable();
	lockdep_assert_preemption_disabled();
	preempt_enable();
	local_irq_save(flags);
	local_irq_restore(flags);
	local_irq_disable();
	local_irq_enable();
	if (!rcu_read_lock_held())
		might_sleep();
}

static void arithmetic(void)
{
	u32 remainder;
	u64 a = 3, b = 5;

	BUILD_BUG_ON(sizeof(u64) != 8);
	BUG_ON(div_u64(100, 7) != 14 || div64_u64(100, 7) != 14);
	BUG_ON(div_u64_rem(100, 7, &remainder) != 14 || remainder != 2);
	BUG_ON(ilog2(4096) != 12 || !is_power_of_2(64) || roundup_pow_of_two(33) != 64);
	BUG_ON(min(a, b) != 3 || max(a, b) != 5 || clamp(a, 4ull, 9ull) != 4 || min_t(u64, a, 1) != 1);
	swap(a, b);
	BUG_ON(a != 5 || b != 3 || ARRAY_SIZE(((int[3]){ 0 })) != 3 || DIV_ROUND_UP(5, 2) != 3);
	BUG_ON(!IS_ENABLED(CONFIG_ARM64) || IS_ENABLED(CONFIG_KASAN));
	BUG_ON(unlikely(hweight32(7) != 3) || fls64(8) != 4 || __ffs(8) != 3);
}

static void memory(void)
{
	u8 bytes[24], copy[24];
	struct item one = { .value = 1 }, two = { .value = 2 }, *item;
	u64 sum = 0;

	memset(bytes, 0x5a, sizeof(bytes));
	memcpy(copy, bytes, sizeof(copy));
	memmove(copy + 1, copy, 8);
	BUG_ON(memcmp(bytes, copy, sizeof(bytes)) || strlen("four") != 4 || strcmp("a", "b") >= 0);
	list_add_tail(&one.link, &items);
	list_add_tail(&two.link, &items);
	list_for_each_entry(item, &items, link)
		sum = 10 * sum + item->value;
	list_del(&one.link);
	list_del(&two.link);
	BUG_ON(sum != 12 || !list_empty(&items) || container_of(&one.value, struct item, value) != &one);
	WRITE_ONCE(plain_word, READ_ONCE(plain_word) + 1);
	smp_store_release(&plain_word, 7);
	BUG_ON(cmpxchg(&plain_word, 7, 8) != 7 || smp_load_acquire(&plain_word) != 8);
	smp_mb();
	smp_wmb();
	smp_rmb();
	barrier();
	this_cpu_inc(walks);
	BUG_ON(smp_processor_id() != 0 || raw_smp_processor_id() || !this_cpu_read(walks));
	cpu_relax();
	udelay(1);
}

static void everything(void)
{
	messages();
	locks();
	arithmetic();
	memory();
}
