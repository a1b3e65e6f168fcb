// SPDX-License-Identifier: GPL-2.0-only
/* Built with -fno-builtin: otherwise a compiler may turn a loop here into a call of the very function it stands in. */
#include "kernel.h"

void *memset(void *to, int byte, unsigned long size)
{
	u8 *at = to;
	u64 word = 0x0101010101010101ul * (u8)byte;

	for (; size && (u64)at % 8; size--)
		*at++ = byte;
	for (; size >= 8; size -= 8, at += 8)
		*(u64 *)at = word;
	while (size--)
		*at++ = byte;
	return to;
}

void *memcpy(void *to, const void *from, unsigned long size)
{
	u8 *at = to;
	const u8 *source = from;

	if (!(((u64)at | (u64)source) % 8))
		for (; size >= 8; size -= 8, at += 8, source += 8)
			*(u64 *)at = *(const u64 *)source;
	while (size--)
		*at++ = *source++;
	return to;
}

void *memmove(void *to, const void *from, unsigned long size)
{
	u8 *at = to;
	const u8 *source = from;

	if (at <= source)
		return memcpy(to, from, size);
	while (size--)
		at[size] = source[size];
	return to;
}

int memcmp(const void *a, const void *b, unsigned long size)
{
	const u8 *left = a, *right = b;

	for (; size; size--, left++, right++)
		if (*left != *right)
			return *left - *right;
	return 0;
}

unsigned long strlen(const char *text)
{
	unsigned long length = 0;

	while (text[length])
		length++;
	return length;
}

/* The CRC-32 of zlib, which the CRC32 instructions compute; pass the previous result to go on. */
u32 crc32(u32 crc, const void *data, unsigned long size)
{
	const u8 *at = data;

	crc = ~crc;
	for (; size && (u64)at % 8; size--)
		asm("crc32b %w0, %w0, %w1" : "+r"(crc) : "r"((u32)*at++));
	for (; size >= 8; size -= 8, at += 8)
		asm("crc32x %w0, %w0, %1" : "+r"(crc) : "r"(*(const u64 *)at));
	while (size--)
		asm("crc32b %w0, %w0, %w1" : "+r"(crc) : "r"((u32)*at++));
	return ~crc;
}
