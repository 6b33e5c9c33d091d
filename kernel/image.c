// SPDX-License-Identifier: GPL-2.0
/*
 * From a region to an image: superblock and base superblock are copied, checked, and kept.
 */
#include "engine.h"

int daxfs_image_open(struct daxfs_image *image, const void *start, u64 size,
		     struct daxfs_error *err)
{
	int ret;

	memset(image, 0, sizeof(*image));
	image->region.start = start;
	image->region.size = size;
	image->superblock = daxfs_alloc(1, sizeof(*image->superblock));
	if (!image->superblock)
		return daxfs_fail(err, ENOMEM, "superblock", 0, "no memory");
	ret = daxfs_superblock_read(&image->region, image->superblock, err);
	if (!ret)
		ret = daxfs_superblock_check(image->superblock, size, err);
	if (!ret)
		ret = daxfs_base_open(&image->base, &image->region, image->superblock, err);
	if (ret)
		daxfs_image_close(image);
	return ret;
}

void daxfs_image_close(struct daxfs_image *image)
{
	kvfree(image->base.header);
	kvfree(image->superblock);
	image->base.header = NULL;
	image->superblock = NULL;
}
