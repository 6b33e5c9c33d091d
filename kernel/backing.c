// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that an image lies in: found, held, and mapped into the kernel.
 *
 * Whatever the driver that owns the memory does, the mapping is our own, so that it stays valid
 * when the driver lets go; then nothing is served any more.
 */
#include <linux/blkdev.h>
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs_context.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/magic.h>
#include <linux/security.h>

#include "compat.h"
#include "vfs.h"

static int check_range(const struct daxfs_backing *backing, struct fs_context *fc)
{
	u64 end;

	if (!PAGE_ALIGNED(backing->phys) || !PAGE_ALIGNED(backing->size))
		return invalf(fc, "daxfs: %#llx bytes at %#llx: expected multiples of %lu",
			      backing->size, backing->phys, PAGE_SIZE);
	if (!backing->size || check_add_overflow(backing->phys, backing->size, &end) ||
	    end - 1 > iomem_resource.end)
		return invalf(fc, "daxfs: %#llx bytes at %#llx: no such memory", backing->size,
			      backing->phys);
	/* Memory that the kernel works with would have two masters. */
	if (region_intersects(backing->phys, backing->size, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return invalf(fc, "daxfs: %#llx bytes at %#llx are the kernel's own memory; reserve them with memmap=",
			      backing->size, backing->phys);
	return 0;
}

/* A range nobody owns; without a size it is the image's, which its superblock tells. */
int daxfs_phys_open(struct daxfs_backing *backing, struct fs_context *fc)
{
	u8 head[offsetofend(struct daxfs_superblock, total_size)] __aligned(8);
	const struct daxfs_superblock *sb = (const void *)head;
	u64 size = backing->size;
	void *start;
	int ret;

	/* As for /dev/mem: who may mount need not be one who may reach all memory. */
	if (!capable(CAP_SYS_RAWIO)) {
		errorf(fc, "daxfs: phys= needs CAP_SYS_RAWIO");
		return -EPERM;
	}
	ret = security_locked_down(LOCKDOWN_DEV_MEM);
	if (ret) {
		errorf(fc, "daxfs: phys=: the kernel is locked down");
		return ret;
	}
	if (!size)
		backing->size = PAGE_SIZE;
	ret = check_range(backing, fc);
	if (ret || size)
		return ret;
	start = memremap(backing->phys, PAGE_SIZE, MEMREMAP_WB);
	if (!start) {
		errorf(fc, "daxfs: memory at %#llx cannot be mapped", backing->phys);
		return -ENOMEM;
	}
	ret = copy_mc_to_kernel(head, start, sizeof(head));
	memunmap(start);
	if (ret) {
		errorf(fc, "daxfs: memory error at %#llx", backing->phys);
		return -EIO;
	}
	if (sb->magic == cpu_to_le32(DAXFS_MAGIC3))
		size = PAGE_ALIGN(le64_to_cpu(sb->total_size));
	if (!size)
		return invalf(fc, "daxfs: no image at %#llx", backing->phys);
	backing->size = size;
	return check_range(backing, fc);
}

/* Reads one of the attributes by which a DAX device describes itself. */
static int device_attribute(struct device *dev, const char *name, u64 *value)
{
	const struct attribute_group *const *groups =
		(const struct attribute_group *const *)dev->type->groups;
	char *text = (char *)__get_free_page(GFP_KERNEL | __GFP_ZERO);
	int ret = -ENOENT;

	if (!text)
		return -ENOMEM;
	for (; groups && *groups && ret == -ENOENT; groups++) {
		struct attribute *const *attrs = (*groups)->attrs;

		for (; attrs && *attrs; attrs++) {
			struct device_attribute *attr;

			if (strcmp((*attrs)->name, name))
				continue;
			attr = container_of_const(*attrs, struct device_attribute, attr);
			ret = attr->show(dev, attr, text) > 0 ? kstrtoull(strim(text), 0, value) :
								-EIO;
			break;
		}
	}
	free_page((unsigned long)text);
	return ret;
}

/* The driver that lets memory be mapped leaves the device: it may become anybody's. */
static int device_event(struct notifier_block *notifier, unsigned long event, void *data)
{
	struct daxfs_backing *backing = container_of(notifier, struct daxfs_backing, notifier);

	if (event == BUS_NOTIFY_UNBIND_DRIVER && data == backing->device)
		daxfs_take_away(backing->sb);
	return NOTIFY_DONE;
}

static int open_device_file(struct daxfs_backing *backing, const char *path,
			    struct fs_context *fc)
{
	/* Whatever it is, nobody is waited for. */
	struct file *file = filp_open(path, O_RDONLY | O_LARGEFILE | O_NONBLOCK, 0);

	if (IS_ERR(file)) {
		if (PTR_ERR(file) == -ENOENT || PTR_ERR(file) == -ENXIO)
			errorf(fc, "daxfs: %s: no such device; one in system-ram mode has none, daxctl reconfigure-device --mode=devdax makes it",
			       path);
		else
			errorf(fc, "daxfs: %s: cannot be opened (%ld)", path, PTR_ERR(file));
		return PTR_ERR(file);
	}
	/* Open files of DAX devices, and no others, lie on the inodes of this file system. */
	if (!S_ISCHR(file_inode(file)->i_mode) ||
	    file->f_mapping->host->i_sb->s_magic != DAXFS_MAGIC) {
		fput(file);
		return invalf(fc, "daxfs: %s: not a DAX device", path);
	}
	backing->file = file;
	return 0;
}

int daxfs_device_open(struct daxfs_backing *backing, const char *path, struct fs_context *fc)
{
	struct device *dev, *second;
	int ret = open_device_file(backing, path, fc);

	if (ret)
		return ret;
	dev = kobj_to_dev(file_inode(backing->file)->i_cdev->kobj.parent);
	if (!dev->bus || strcmp(dev->bus->name, "dax") || !dev->type ||
	    device_attribute(dev, "resource", &backing->phys) ||
	    device_attribute(dev, "size", &backing->size))
		return invalf(fc, "daxfs: %s: does not tell where its memory is", path);
	second = device_find_child_by_name(dev, "mapping1");
	if (second) {
		put_device(second);
		return invalf(fc, "daxfs: %s: its memory is in several pieces", path);
	}
	backing->device = get_device(dev);
	return check_range(backing, fc);
}

static int fail_range(struct super_block *sb, u64 offset, u64 len)
{
	struct daxfs_backing *backing = &DAXFS_SB(sb)->backing;
	u64 start = backing->dax_start, at, end;

	if (len == U64_MAX) {
		daxfs_take_away(sb);
		return 0;
	}
	/* It tells what of the whole device fails; the image may be in a partition of it. */
	if (check_add_overflow(offset, len, &end))
		end = U64_MAX;
	at = max(offset, start);
	end = min(end, start + backing->size);
	if (at >= end)
		return -ENXIO;
	if (!backing->pages) {
		daxfs_take_away(sb);
		return 0;
	}
	/* Later faults see the mark; those who have the page mapped fault anew. */
	end -= start;
	for (at = round_down(at - start, PAGE_SIZE); at < end; at += PAGE_SIZE)
		SetPageHWPoison(pfn_to_page(daxfs_backing_pfn(backing, at)));
	daxfs_unmap_all(sb);
	return 0;
}

/*
 * Held while a failure is dealt with, so that its file system stays, and while a device is taken
 * hold of, so that it is known by then what is to be done.
 */
static DEFINE_MUTEX(holding);

/* Who holds a device; under that lock. */
static LIST_HEAD(holders);

/*
 * Called when memory fails, and when the device goes. Whoever calls may be late: dax_holder() can
 * be another kind of file system by now.
 */
static int block_failure(struct dax_device *dax, u64 offset, u64 len, int flags)
{
	struct daxfs_backing *backing;
	int ret = -ENXIO;

	mutex_lock(&holding);
	list_for_each_entry(backing, &holders, held)
		if (backing->dax == dax && !fail_range(backing->sb, offset, len))
			ret = 0;
	mutex_unlock(&holding);
	return ret;
}

static const struct dax_holder_operations block_holder = {
	.notify_failure = block_failure,
};

static const struct daxfs_backing *holder_of(const struct dax_device *dax)
{
	const struct daxfs_backing *backing;

	list_for_each_entry(backing, &holders, held)
		if (backing->dax == dax)
			return backing;
	return NULL;
}

/* A device takes one holder, which all of us are together: it may have several partitions. */
static struct dax_device *hold(struct block_device *bdev, u64 *start)
{
	struct dax_device *dax = fs_dax_get_by_bdev(bdev, start, NULL, NULL);
	const struct daxfs_backing *other = holder_of(dax);

	if (other && !daxfs_is_gone(other->sb))
		return dax;
	fs_put_dax(dax, NULL);
	/* A device that said it goes does not say it again. */
	return other ? NULL : fs_dax_get_by_bdev(bdev, start, &holders, &block_holder);
}

static bool has_pages(u64 phys)
{
	struct dev_pagemap *pagemap = compat_get_dev_pagemap(PHYS_PFN(phys));

	put_dev_pagemap(pagemap);
	return pagemap;
}

/* A device made of others, as device mapper's are, is not told when the memory below it leaves. */
static bool is_of_another(const struct daxfs_backing *backing)
{
	struct dev_pagemap *pagemap = compat_get_dev_pagemap(PHYS_PFN(backing->phys));
	bool another = pagemap && pagemap->owner != dax_get_private(backing->dax);

	put_dev_pagemap(pagemap);
	return another;
}

static int block_open(struct daxfs_backing *backing, struct block_device *bdev,
		      struct fs_context *fc)
{
	unsigned long first = 0, last = 0;
	pgoff_t at, pages;
	long found;
	int lock;

	backing->kind = DAXFS_BLOCK;
	backing->size = round_down(bdev_nr_bytes(bdev), PAGE_SIZE);
	backing->dax = hold(bdev, &backing->dax_start);
	if (!backing->dax)
		return invalf(fc, "daxfs: %pg: not a device whose memory can be addressed, or in use",
			      bdev);
	list_add(&backing->held, &holders);
	at = PHYS_PFN(backing->dax_start);
	pages = PHYS_PFN(backing->size);
	/* Of a range in which some page is known to be broken, a device gives what is before it. */
	lock = dax_read_lock();
	found = compat_dax_page(backing->dax, at, &first);
	if (found > 0)
		found = compat_dax_page(backing->dax, at + pages - 1, &last);
	dax_read_unlock(lock);
	if (found < 0) {
		errorf(fc, "daxfs: %pg: its memory cannot be reached (%ld)", bdev, found);
		return found;
	}
	if (last - first != pages - 1)
		return invalf(fc, "daxfs: %pg: its memory is in several pieces", bdev);
	backing->phys = PFN_PHYS(first);
	if (is_of_another(backing))
		return invalf(fc, "daxfs: %pg: its memory is that of another device, which can leave; mount that one",
			      bdev);
	return check_range(backing, fc);
}

int daxfs_dmabuf_open(struct daxfs_backing *backing, struct fs_context *fc)
{
	if (!backing->dmabuf)
		return invalf(fc, "daxfs: no DMA buffer given");
	backing->size = round_down(backing->dmabuf->size, PAGE_SIZE);
	return backing->size ? 0 : invalf(fc, "daxfs: the DMA buffer is empty");
}

static int map_dmabuf(struct daxfs_backing *backing, struct fs_context *fc)
{
	int ret = dma_buf_begin_cpu_access(backing->dmabuf, DMA_FROM_DEVICE);

	if (!ret) {
		ret = compat_dma_buf_vmap(backing->dmabuf, &backing->map);
		if (ret)
			dma_buf_end_cpu_access(backing->dmabuf, DMA_FROM_DEVICE);
	}
	if (ret) {
		errorf(fc, "daxfs: the DMA buffer cannot be mapped (%d)", ret);
		return ret;
	}
	if (backing->map.is_iomem)
		return invalf(fc, "daxfs: the DMA buffer is a device's memory");
	backing->start = backing->map.vaddr;
	return 0;
}

/* The lock is held as long as a driver takes to leave: it is told, or seen to be gone. */
static int watch_device(struct daxfs_backing *backing, struct fs_context *fc)
{
	int ret;

	device_lock(backing->device);
	backing->notifier.notifier_call = device_event;
	ret = bus_register_notifier(backing->device->bus, &backing->notifier);
	/* Of a driver that left before, nobody told; and what came after it may be the kernel. */
	if (!ret && !backing->device->driver)
		ret = invalf(fc, "daxfs: %s: its driver has left it", dev_name(backing->device));
	device_unlock(backing->device);
	return ret ?: check_range(backing, fc);
}

/* Maps the memory into the kernel; of what has no owner yet we become it. */
int daxfs_backing_map(struct daxfs_backing *backing, struct fs_context *fc)
{
	if (backing->kind == DAXFS_DMABUF)
		return map_dmabuf(backing, fc);
	if (backing->kind == DAXFS_PHYS) {
		backing->resource = request_mem_region(backing->phys, backing->size, "daxfs");
		if (!backing->resource) {
			errorf(fc, "daxfs: %#llx bytes at %#llx are in use; /proc/iomem tells by whom",
			       backing->size, backing->phys);
			return -EBUSY;
		}
	}
	backing->start = memremap(backing->phys, backing->size, MEMREMAP_WB);
	if (!backing->start) {
		errorf(fc, "daxfs: %#llx bytes at %#llx cannot be mapped", backing->size,
		       backing->phys);
		return -ENOMEM;
	}
	backing->pages = has_pages(backing->phys) &&
			 has_pages(backing->phys + backing->size - 1);
	return backing->device ? watch_device(backing, fc) : 0;
}

int daxfs_block_map(struct daxfs_backing *backing, struct block_device *bdev,
		    struct fs_context *fc)
{
	/* What was written through the device's node may lie in its page cache still. */
	int ret = sync_blockdev(bdev);

	if (ret) {
		errorf(fc, "daxfs: what was written to the device does not reach its memory");
		return ret;
	}
	mutex_lock(&holding);
	ret = block_open(backing, bdev, fc) ?: daxfs_backing_map(backing, fc);
	mutex_unlock(&holding);
	return ret;
}

/* Lets go of whatever is held; once more does no harm. */
void daxfs_backing_close(struct daxfs_backing *backing)
{
	if (backing->notifier.notifier_call)
		bus_unregister_notifier(backing->device->bus, &backing->notifier);
	if (backing->dax) {
		mutex_lock(&holding);
		list_del(&backing->held);
		fs_put_dax(backing->dax, holder_of(backing->dax) ? NULL : &holders);
		mutex_unlock(&holding);
	}
	if (backing->start && backing->kind != DAXFS_DMABUF)
		memunmap(backing->start);
	if (!iosys_map_is_null(&backing->map)) {
		compat_dma_buf_vunmap(backing->dmabuf, &backing->map);
		dma_buf_end_cpu_access(backing->dmabuf, DMA_FROM_DEVICE);
	}
	if (backing->resource)
		release_mem_region(backing->phys, backing->size);
	if (backing->dmabuf)
		dma_buf_put(backing->dmabuf);
	if (backing->device)
		put_device(backing->device);
	if (backing->file)
		fput(backing->file);
	memset(backing, 0, sizeof(*backing));
}

unsigned long daxfs_backing_pfn(const struct daxfs_backing *backing, u64 offset)
{
	const void *addr = backing->start + offset;

	if (backing->kind != DAXFS_DMABUF)
		return PHYS_PFN(backing->phys + offset);
	return is_vmalloc_addr(addr) ? vmalloc_to_pfn(addr) : page_to_pfn(virt_to_page(addr));
}
