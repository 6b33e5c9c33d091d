// SPDX-License-Identifier: GPL-2.0
/*
 * Mapping files: the memory itself, 2 MiB at a time where alignment allows and there are struct
 * pages. Walkers of page tables look for the page of a huge entry, whatever the mapping says.
 *
 * Private mappings are VM_MIXEDMAP, as they hold pages of their own beside the memory's. Page table
 * entries are never writable: who writes to a private mapping gets a copy from the kernel, and
 * shared ones cannot be written, as nothing here can be opened for it.
 */
#include <linux/hash.h>

#include "compat.h"
#include "vfs.h"

/* The part of a file that one fault may map: pages of it, as far as its mapping goes. */
struct window {
	const struct daxfs_backing *backing;
	struct mm_struct *mm;
	pgprot_t prot;
	unsigned long addr;	/* first page in the process */
	unsigned long pages;
	u64 offset;		/* of the first page in the image */
};

/* Bytes of whole pages that a file has, where the region has them too. */
static u64 mapped_size(const struct inode *inode)
{
	u64 size = PAGE_ALIGN(inode->i_size), data = DAXFS_I(inode)->data;
	u64 region = round_down(DAXFS_SB(inode->i_sb)->image.region.size, PAGE_SIZE);

	return data < region ? min(size, region - data) : 0;
}

/*
 * Held while an entry of a page middle directory is decided on: a huge one or a table of small
 * ones. A private mapping can be asked for both at once, by a reader and a writer.
 */
#define DECIDING_BITS 6
static struct mutex deciding[1 << DECIDING_BITS];

void daxfs_mmap_init(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(deciding); i++)
		mutex_init(&deciding[i]);
}

static struct mutex *deciding_of(const struct vm_fault *vmf)
{
	unsigned long key = (unsigned long)vmf->vma->vm_mm ^ (vmf->address >> PMD_SHIFT);

	return &deciding[hash_long(key, DECIDING_BITS)];
}

/* What of [@start, @end) lies in the mapping and in the file; the address of the fault does. */
static bool window_around(const struct vm_fault *vmf, unsigned long start, unsigned long end,
			  struct window *window)
{
	const struct vm_area_struct *vma = vmf->vma;
	const struct inode *inode = file_inode(vma->vm_file);
	unsigned long addr = vmf->address & PAGE_MASK;
	u64 size = mapped_size(inode), offset = (u64)vmf->pgoff << PAGE_SHIFT;

	if (offset >= size)
		return false;
	start = max3(start, vma->vm_start, addr - min_t(u64, offset, addr));
	end = min(end, vma->vm_end);
	end = min_t(u64, end, addr + (size - offset));
	window->backing = &DAXFS_SB(inode->i_sb)->backing;
	window->mm = vma->vm_mm;
	window->prot = vma->vm_page_prot;
	window->addr = start;
	window->pages = (end - start) >> PAGE_SHIFT;
	window->offset = DAXFS_I(inode)->data + offset - (addr - start);
	return true;
}

static unsigned long pfn_at(const struct window *window, unsigned long addr)
{
	return daxfs_backing_pfn(window->backing, window->offset + (addr - window->addr));
}

/* Memory that is known to be broken is not mapped. */
static bool is_poisoned(const struct window *window, unsigned long pfn)
{
	return window->backing->pages && PageHWPoison(pfn_to_page(pfn));
}

static int map_one(pte_t *entry, unsigned long addr, void *private)
{
	const struct window *window = private;
	unsigned long pfn;

	if (!pte_none(ptep_get(entry)))
		return 0;
	pfn = pfn_at(window, addr);
	if (!is_poisoned(window, pfn))
		set_pte_at(window->mm, addr, entry,
			   compat_page_entry(pfn, window->prot, window->backing->pages));
	return 0;
}

/*
 * One fault fills the page table it needs anyway, as far as mapping and file go. The page asked
 * for comes first and by itself, so that whatever goes wrong is told.
 */
static vm_fault_t map_pages(struct vm_fault *vmf)
{
	unsigned long table = vmf->address & PMD_MASK, pfn;
	struct window window;
	int tries = 0;
	vm_fault_t ret;

	/* Somebody else's fault was served with a huge entry: one for writing will come again. */
	if (compat_pmd_is_huge(READ_ONCE(*vmf->pmd)))
		return VM_FAULT_NOPAGE;
	if (!window_around(vmf, table, table + PMD_SIZE, &window))
		return VM_FAULT_SIGBUS;
	pfn = pfn_at(&window, vmf->address & PAGE_MASK);
	if (is_poisoned(&window, pfn))
		return VM_FAULT_HWPOISON;
	/*
	 * Since 6.14 madvise(2) of another thread may take the new table away before it is locked,
	 * which is told as a lack of memory, too.
	 */
	do
		ret = compat_insert_page(vmf->vma, vmf->address & PAGE_MASK, pfn,
					 window.backing->pages);
	while (ret == VM_FAULT_OOM && ++tries < 10);
	if (ret == VM_FAULT_NOPAGE && window.pages > 1)
		apply_to_page_range(window.mm, window.addr, window.pages << PAGE_SHIFT,
				    map_one, &window);
	return ret;
}

static vm_fault_t map_huge(struct vm_fault *vmf)
{
	unsigned long start = vmf->address & PMD_MASK, pfn, i;
	struct window window;

	/* A copy is of one page. */
	if (vmf->flags & FAULT_FLAG_WRITE)
		return VM_FAULT_FALLBACK;
	if (!window_around(vmf, start, start + PMD_SIZE, &window) ||
	    window.pages != PMD_SIZE / PAGE_SIZE || !window.backing->pages)
		return VM_FAULT_FALLBACK;
	pfn = pfn_at(&window, start);
	if (pfn % (PMD_SIZE / PAGE_SIZE))
		return VM_FAULT_FALLBACK;
	for (i = 0; i < PMD_SIZE / PAGE_SIZE; i++)
		if (is_poisoned(&window, pfn + i))
			return VM_FAULT_FALLBACK;
	return compat_insert_huge(vmf, pfn);
}

/* When the memory is taken away, mappings go and none may come after. */
static vm_fault_t fault_locked(struct vm_fault *vmf, vm_fault_t (*map)(struct vm_fault *vmf))
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct mutex *lock = deciding_of(vmf);
	vm_fault_t ret;

	filemap_invalidate_lock_shared(inode->i_mapping);
	mutex_lock(lock);
	ret = daxfs_is_gone(inode->i_sb) ? VM_FAULT_SIGBUS : map(vmf);
	mutex_unlock(lock);
	filemap_invalidate_unlock_shared(inode->i_mapping);
	return ret;
}

static vm_fault_t daxfs_fault(struct vm_fault *vmf)
{
	return fault_locked(vmf, map_pages);
}

static vm_fault_t daxfs_huge_fault(struct vm_fault *vmf, compat_fault_size_t size)
{
	if (!compat_fault_is_pmd(size))
		return VM_FAULT_FALLBACK;
	return fault_locked(vmf, map_huge);
}

/*
 * Debuggers read what has no struct pages through this, page by page: the next may be one of a
 * private mapping's own, or beyond its end.
 */
static int daxfs_access(struct vm_area_struct *vma, unsigned long addr, void *buf, int len,
			int write)
{
	const struct inode *inode = file_inode(vma->vm_file);
	u64 offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) + (addr - vma->vm_start);
	u64 size = mapped_size(inode);
	struct daxfs_error err;

	if (write || offset >= size || daxfs_is_gone(inode->i_sb))
		return -EFAULT;
	len = min3((u64)len, (u64)(PAGE_SIZE - offset_in_page(addr)), size - offset);
	if (daxfs_region_read(&DAXFS_SB(inode->i_sb)->image.region, DAXFS_I(inode)->data + offset,
			      buf, len, &err))
		return -EFAULT;
	return len;
}

static const struct vm_operations_struct daxfs_vm_operations = {
	.fault = daxfs_fault,
	.huge_fault = daxfs_huge_fault,
	.access = daxfs_access,
};

int daxfs_mmap(struct file *file, struct vm_area_struct *vma)
{
	const struct inode *inode = file_inode(file);
	u64 data = DAXFS_I(inode)->data, end = data + inode->i_size;

	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == (VM_SHARED | VM_MAYWRITE))
		return -EINVAL;
	if (!IS_ALIGNED(data, DAXFS_BLOCK_SIZE))
		return -EUCLEAN;
	/* Of larger pages, another file may have the rest, which is not for everybody to see. */
	if (!PAGE_ALIGNED(data) || round_up(end, DAXFS_BLOCK_SIZE) != PAGE_ALIGN(end))
		return -ENODEV;
	vma->vm_ops = &daxfs_vm_operations;
	compat_vm_flags_set(vma, compat_mapping_flags(vma, DAXFS_SB(inode->i_sb)->backing.pages));
	return 0;
}
