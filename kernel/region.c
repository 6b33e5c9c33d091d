// SPDX-License-Identifier: GPL-2.0
/*
 * The mapped memory of an image: bounds-checked copies out of it, each byte loaded once.
 */
#include "engine.h"

/* Why bytes could not be read. */
int daxfs_region_failed(const struct daxfs_region *region, u64 offset, size_t len,
			struct daxfs_error *err)
{
	if (!daxfs_region_holds(region, offset, len))
		return daxfs_corrupt(err, "bytes", offset,
				     "expected %zu bytes inside the region of %llu bytes", len,
				     (unsigned long long)region->size);
	return daxfs_fail(err, EIO, "bytes", offset, "memory error");
}

/* Zeroed memory for what an image warrants: its amount was compared with bytes that are there. */
void *daxfs_alloc(u64 count, size_t size)
{
	u64 bytes;

	if (check_mul_overflow(count, (u64)size, &bytes) || bytes > SIZE_MAX)
		return NULL;
	if (bytes <= INT_MAX)
		return kvzalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	return __vmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_ZERO);
}

/* CRC-32C of the format: continue from @sum, which is 0 at first. */
u32 daxfs_crc32c(u32 sum, const void *bytes, size_t len)
{
	return ~crc32c(~sum, bytes, len);
}
