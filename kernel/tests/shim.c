// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's library functions that the engine needs.
 */
#include "shim.h"

unsigned long signals_asked, signal_at;

u32 crc32c(u32 sum, const void *bytes, size_t len)
{
	static u32 table[256];
	const u8 *at = bytes;

	if (!table[1])
		for (u32 i = 0; i < 256; i++) {
			u32 value = i;

			for (int bit = 0; bit < 8; bit++)
				value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
			table[i] = value;
		}
	while (len--)
		sum = sum >> 8 ^ table[(sum ^ *at++) & 0xff];
	return sum;
}

void sort_r(void *base, size_t count, size_t size,
	    int (*compare)(const void *, const void *, const void *), void *swap,
	    const void *private)
{
	(void)swap;
	if (count)
		qsort_r(base, count, size, (int (*)(const void *, const void *, void *))compare,
			(void *)private);
}
