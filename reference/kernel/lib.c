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

	if (!(((u64)at | (u64)source) % 8)) {
		for (; size >= 64; size -= 64, at += 64, source += 64) {
			const u64 *words = (const u64 *)source;
			u64 a = words[0], b = words[1], c = words[2], d = words[3];
			u64 e = words[4], f = words[5], g = words[6], h = words[7];
			u64 *into = (u64 *)at;

			into[0] = a, into[1] = b, into[2] = c, into[3] = d;
			into[4] = e, into[5] = f, into[6] = g, into[7] = h;
		}
		for (; size >= 8; size -= 8, at += 8, source += 8)
			*(u64 *)at = *(const u64 *)source;
	}
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

int strncmp(const char *a, const char *b, unsigned long size)
{
	for (; size; size--, a++, b++)
		if (*a != *b || !*a)
			return (u8)*a - (u8)*b;
	return 0;
}

int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, ~0ul);
}

/* What a chunk of zeros makes of a CRC's register, by the register's bytes: the change is linear. */
#define CHUNK_WORDS 16
static u32 after_zeros[4][256];

static u32 feed_word(u32 state, u64 word)
{
	asm(".arch_extension crc\n\tcrc32x %w0, %w0, %1" : "+r"(state) : "r"(word));
	return state;
}

void crc32_init(void)
{
	u32 basis[32];

	for (int bit = 0; bit < 32; bit++) {
		basis[bit] = 1u << bit;
		for (int i = 0; i < CHUNK_WORDS; i++)
			basis[bit] = feed_word(basis[bit], 0);
	}
	for (int byte = 0; byte < 4; byte++)
		for (int value = 0; value < 256; value++)
			for (int bit = 0; bit < 8; bit++)
				if (value >> bit & 1)
					after_zeros[byte][value] ^= basis[8 * byte + bit];
}

static bool chunk_is_zero(const u64 *words)
{
	for (int i = 0; i < CHUNK_WORDS; i += 4)
		if (words[i] | words[i + 1] | words[i + 2] | words[i + 3])
			return false;
	return true;
}

/* The CRC-32 of zlib, which the CRC32 instructions compute; pass the previous result to go on. Emulated, they cost
 * ten times a load, and most of what is sent is zero: hence the short cut. */
u32 crc32(u32 crc, const void *data, unsigned long size)
{
	const u8 *at = data;

	crc = ~crc;
	for (; size && (u64)at % 8; size--)
		asm(".arch_extension crc\n\tcrc32b %w0, %w0, %w1" : "+r"(crc) : "r"((u32)*at++));
	for (; size >= 8 * CHUNK_WORDS; size -= 8 * CHUNK_WORDS) {
		const u64 *words = (const u64 *)at;

		at += 8 * CHUNK_WORDS;
		if (chunk_is_zero(words))
			crc = after_zeros[0][crc & 255] ^ after_zeros[1][crc >> 8 & 255] ^
			      after_zeros[2][crc >> 16 & 255] ^ after_zeros[3][crc >> 24];
		else
			for (int i = 0; i < CHUNK_WORDS; i++)
				crc = feed_word(crc, words[i]);
	}
	for (; size >= 8; size -= 8, at += 8)
		crc = feed_word(crc, *(const u64 *)at);
	while (size--)
		asm(".arch_extension crc\n\tcrc32b %w0, %w0, %w1" : "+r"(crc) : "r"((u32)*at++));
	return ~crc;
}
