// SPDX-License-Identifier: GPL-2.0-only
/* The pages that tables are made of. pgtable/memory.py is its twin; both follow the same rules, so that the two sides
 * normally agree on addresses too:
 *   a single page is the lowest free one; an exact allocation is the lowest free run aligned to its length rounded up
 *   to a power of two; a page whose count is 0 is free, and a free page is full of POISON. */
#include "kernel.h"

#define POISON 0x5b5b5b5b5b5b5b5bul /* as a PTE: a table far outside every pool */

static u64 pool_base, pool_pages;
static u64 refcounts[POOL_MAX_PAGES];
static u64 tables[POOL_MAX_PAGES]; /* of a page in use: the table under test that it was allocated for */
static u64 lowest_free;	/* no page below it is free */
static u64 high_water;	/* no page from here on was ever used by this program */
static u64 allocs, frees;
static u64 poisoned;	/* pages that were ever within a machine's pool: the others hold no POISON yet */

static u64 *page_words(u64 index)
{
	return (u64 *)(POOL_MEMORY + index * POOL_PAGE_SIZE);
}

static u64 page_pa(u64 index)
{
	return pool_base + index * POOL_PAGE_SIZE;
}

/* The pool's page that holds `pa`, or NO_PAGE. */
static u64 page_at(u64 pa)
{
	u64 index = (pa - pool_base) / POOL_PAGE_SIZE;

	return pa >= pool_base && index < pool_pages ? index : NO_PAGE;
}

static void complain(enum misuse what, u64 pa)
{
	op_complain(COMPLAINT_POOL, what, pa, NULL);
}

static void poison(u64 index)
{
	u64 *words = page_words(index);

	for (u64 i = 0; i < WORDS_PER_PAGE; i += 4)
		words[i] = words[i + 1] = words[i + 2] = words[i + 3] = POISON;
}

static void zero(u64 index)
{
	u64 at = (u64)page_words(index), block;

	asm("mrs %0, dczid_el0" : "=r"(block));
	block = 4ul << (block & 15);
	for (u64 end = at + POOL_PAGE_SIZE; at < end; at += block)
		asm volatile("dc zva, %0" :: "r"(at) : "memory");
}

static bool is_poisoned(u64 index)
{
	const u64 *words = page_words(index);
	u64 damage = 0;

	for (u64 i = 0; i < WORDS_PER_PAGE; i += 4)
		damage |= (words[i] ^ POISON) | (words[i + 1] ^ POISON) | (words[i + 2] ^ POISON) |
			  (words[i + 3] ^ POISON);
	return !damage;
}

static void check_poison(u64 index)
{
	if (!is_poisoned(index))
		complain(MISUSE_POISON, page_pa(index));
}

void pool_reset(u64 base, u64 pages)
{
	for (u64 i = 0; i < high_water; i++) {
		poison(i);
		refcounts[i] = 0;
	}
	if (pages != pool_pages)
		pool_window(pages);
	for (; poisoned < pages; poisoned++)
		poison(poisoned);
	pool_base = base;
	pool_pages = pages;
	lowest_free = 0;
	high_water = 0;
	allocs = 0;
	frees = 0;
}

static void take(u64 index, u64 table)
{
	check_poison(index);
	zero(index);
	refcounts[index] = 1;
	tables[index] = table;
	allocs++;
	if (index >= high_water)
		high_water = index + 1;
}

static void drop(u64 index)
{
	if (--refcounts[index])
		return;
	poison(index);
	frees++;
	if (index < lowest_free)
		lowest_free = index;
}

u64 pool_alloc(u64 table)
{
	while (lowest_free < pool_pages && refcounts[lowest_free])
		lowest_free++;
	if (lowest_free == pool_pages)
		return NO_PAGE;
	take(lowest_free, table);
	return page_pa(lowest_free);
}

static bool run_is_free(u64 first, u64 pages)
{
	for (u64 i = 0; i < pages; i++)
		if (refcounts[first + i])
			return false;
	return true;
}

u64 pool_alloc_exact(u64 size, u64 table)
{
	u64 pages = (size + POOL_PAGE_SIZE - 1) / POOL_PAGE_SIZE, step = 1;

	while (step < pages)
		step *= 2;
	for (u64 first = 0; first + pages <= pool_pages; first += step) {
		if (!run_is_free(first, pages))
			continue;
		for (u64 i = 0; i < pages; i++)
			take(first + i, table);
		return page_pa(first);
	}
	return NO_PAGE;
}

void pool_free_exact(u64 pa, u64 size)
{
	u64 pages = (size + POOL_PAGE_SIZE - 1) / POOL_PAGE_SIZE;

	for (u64 i = 0; i < pages; i++) {
		u64 index = page_at(pa + i * POOL_PAGE_SIZE);

		if (index == NO_PAGE || !refcounts[index])
			complain(MISUSE_BAD_FREE, pa + i * POOL_PAGE_SIZE);
		else
			drop(index);
	}
}

void pool_get(u64 pa)
{
	u64 index = page_at(pa);

	if (index == NO_PAGE || !refcounts[index])
		complain(MISUSE_BAD_GET, pa);
	else
		refcounts[index]++;
}

void pool_put(u64 pa)
{
	u64 index = page_at(pa);

	if (index == NO_PAGE || !refcounts[index])
		complain(MISUSE_BAD_PUT, pa);
	else
		drop(index);
}

u64 pool_count(u64 pa)
{
	u64 index = page_at(pa);

	if (index != NO_PAGE)
		return refcounts[index];
	complain(MISUSE_BAD_COUNT, pa);
	return 0;
}

/* Addresses outside the pool become non-canonical pointers: they come back whole, and dereferencing one is an abort. */
#define OUTSIDE (1ul << 63)

void *pool_to_virt(u64 pa)
{
	u64 index = page_at(pa);

	return (void *)(index == NO_PAGE ? pa | OUTSIDE : (u64)page_words(index) + pa % POOL_PAGE_SIZE);
}

bool pool_has(u64 pa)
{
	return page_at(pa) != NO_PAGE;
}

u64 pool_to_phys(const void *va)
{
	u64 offset = (u64)va - POOL_MEMORY;

	return offset < pool_pages * POOL_PAGE_SIZE ? pool_base + offset : (u64)va & ~OUTSIDE;
}

/* Whether a pointer of hosted code is to pages, which a table's entries may be in. */
bool pool_holds(const void *va)
{
	return (u64)va - POOL_MEMORY < POOL_MAX_PAGES * POOL_PAGE_SIZE;
}

/* Every free page, whether it was ever used or not; what is damaged is mended, so that it is not found again. */
void pool_check_poison(void)
{
	for (u64 i = 0; i < pool_pages; i++) {
		if (refcounts[i] || is_poisoned(i))
			continue;
		complain(MISUSE_POISON, page_pa(i));
		poison(i);
	}
}

u64 pool_allocs(void)
{
	return allocs;
}

u64 pool_frees(void)
{
	return frees;
}

u64 pool_in_use(void)
{
	u64 used = 0;

	for (u64 i = 0; i < high_water; i++)
		used += refcounts[i] != 0;
	return used;
}

/* Steps through the pages in use, in ascending order; start with index NO_PAGE. */
bool pool_next_used(struct pool_page *page)
{
	while (++page->index < high_water) {
		if (!refcounts[page->index])
			continue;
		page->pa = page_pa(page->index);
		page->refcount = refcounts[page->index];
		page->table = tables[page->index];
		page->words = page_words(page->index);
		return true;
	}
	return false;
}
