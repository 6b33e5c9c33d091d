/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every difference between the kernels that this module builds for, and nothing else. The names
 * here say what is wanted; callers know no versions.
 */
#ifndef DAXFS_COMPAT_H
#define DAXFS_COMPAT_H

#include <linux/dax.h>
#include <linux/dma-buf.h>
#include <linux/fs.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/huge_mm.h>
#include <linux/posix_acl.h>
#include <linux/splice.h>
#include <linux/version.h>
#include <linux/xattr.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#include <linux/filelock.h>
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#include <linux/pfn_t.h>
#endif

static inline void compat_set_times(struct inode *inode, struct timespec64 time)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	inode_set_ctime_to_ts(inode, time);
#else
	inode->i_ctime = time;
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	inode_set_mtime_to_ts(inode, time);
	inode_set_atime_to_ts(inode, time);
#else
	inode->i_mtime = time;
	inode->i_atime = time;
#endif
}

static inline bool compat_inode_is_new(struct inode *inode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	return inode_state_read_once(inode) & I_NEW;
#else
	return inode->i_state & I_NEW;
#endif
}

static inline bool compat_inode_is_going(struct inode *inode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	return inode_state_read(inode) & (I_FREEING | I_WILL_FREE | I_NEW);
#else
	return inode->i_state & (I_FREEING | I_WILL_FREE | I_NEW);
#endif
}

static inline void compat_vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

/* What a huge fault is told of the size it is wanted for. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
typedef unsigned int compat_fault_size_t;
#define compat_fault_is_pmd(size) ((size) == PMD_SHIFT - PAGE_SHIFT)
#else
typedef enum page_entry_size compat_fault_size_t;
#define compat_fault_is_pmd(size) ((size) == PE_SIZE_PMD)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define compat_splice_read copy_splice_read
#else
#define compat_splice_read generic_file_splice_read
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define compat_get_acl get_inode_acl
#else
#define compat_get_acl get_acl
#endif

static inline void compat_set_xattr_handlers(struct super_block *sb,
					     const struct xattr_handler *const *handlers)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	sb->s_xattr = handlers;
#else
	sb->s_xattr = (const struct xattr_handler **)handlers;
#endif
}

static inline void compat_set_uuid(struct super_block *sb, const u8 *uuid)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	super_set_uuid(sb, uuid, UUID_SIZE);
#else
	memcpy(&sb->s_uuid, uuid, UUID_SIZE);
#endif
}

/* Handles of inode numbers are the default before 6.7. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
#define COMPAT_ENCODE_FH .encode_fh = generic_encode_ino32_fh,
#else
#define COMPAT_ENCODE_FH
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define COMPAT_IMPORT_NS(name) MODULE_IMPORT_NS(#name)
#else
#define COMPAT_IMPORT_NS(name) MODULE_IMPORT_NS(name)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define compat_dma_buf_vmap dma_buf_vmap_unlocked
#define compat_dma_buf_vunmap dma_buf_vunmap_unlocked
#else
#define compat_dma_buf_vmap dma_buf_vmap
#define compat_dma_buf_vunmap dma_buf_vunmap
#endif

/* What the struct pages of device memory at @pfn belong to; NULL where there are none. */
static inline struct dev_pagemap *compat_get_dev_pagemap(unsigned long pfn)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	return get_dev_pagemap(pfn);
#else
	return get_dev_pagemap(pfn, NULL);
#endif
}

/* Where in physical memory a page of a DAX device lies, broken or not. */
static inline long compat_dax_page(struct dax_device *dax, pgoff_t at, unsigned long *pfn)
{
	void *addr;
	long found;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	found = dax_direct_access(dax, at, 1, DAX_RECOVERY_WRITE, &addr, pfn);
#else
	pfn_t entry;

	found = dax_direct_access(dax, at, 1, DAX_RECOVERY_WRITE, &addr, &entry);
	if (found > 0)
		*pfn = pfn_t_to_pfn(entry);
#endif
	return found;
}

/* Page frame numbers were a type of their own once. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
#define compat_pfn(pfn, flags) (pfn)
#else
#define compat_pfn(pfn, flags) __pfn_to_pfn_t(pfn, flags)
#endif

/*
 * Mapping a page, or a huge page of memory that has struct pages.
 *
 * Up to 6.14 get_user_pages() finds the struct pages by "devmap" entries. Later it takes those of
 * huge entries, which count references that device memory's do not have; it leaves mappings marked
 * VM_PFNMAP alone. Private ones cannot be that; those have small pages only.
 *
 * And from then on S_DAX says that folios count the entries which map them.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)

#define COMPAT_S_DAX 0

static inline unsigned long compat_mapping_flags(const struct vm_area_struct *vma, bool pages)
{
	bool is_private = (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE;

	return pages && !is_private ? VM_PFNMAP : VM_MIXEDMAP;
}

static inline vm_fault_t compat_insert_page(struct vm_area_struct *vma, unsigned long addr,
					    unsigned long pfn, bool pages)
{
	return vma->vm_flags & VM_PFNMAP ?
		       vmf_insert_pfn(vma, addr, pfn) :
		       vmf_insert_mixed(vma, addr, compat_pfn(pfn, PFN_DEV));
}

static inline vm_fault_t compat_insert_huge(struct vm_fault *vmf, unsigned long pfn)
{
	if (!IS_ENABLED(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP) || !(vmf->vma->vm_flags & VM_PFNMAP))
		return VM_FAULT_FALLBACK;
	return vmf_insert_pfn_pmd(vmf, compat_pfn(pfn, PFN_DEV), false);
}

#define compat_pmd_is_huge(pmd) pmd_leaf(pmd)
#define compat_page_entry(pfn, prot, pages) pte_mkspecial(pfn_pte(pfn, prot))

#else

#define COMPAT_S_DAX S_DAX

static inline unsigned long compat_mapping_flags(const struct vm_area_struct *vma, bool pages)
{
	return VM_MIXEDMAP;
}

static inline vm_fault_t compat_insert_page(struct vm_area_struct *vma, unsigned long addr,
					    unsigned long pfn, bool pages)
{
	return vmf_insert_mixed(vma, addr, compat_pfn(pfn, PFN_DEV | (pages ? PFN_MAP : 0)));
}

static inline vm_fault_t compat_insert_huge(struct vm_fault *vmf, unsigned long pfn)
{
#if defined(CONFIG_TRANSPARENT_HUGEPAGE) && defined(CONFIG_ARCH_HAS_PTE_DEVMAP)
	return vmf_insert_pfn_pmd(vmf, compat_pfn(pfn, PFN_DEV | PFN_MAP), false);
#else
	return VM_FAULT_FALLBACK;
#endif
}

#define compat_pmd_is_huge(pmd) (pmd_trans_huge(pmd) || pmd_devmap(pmd))

static inline pte_t compat_page_entry(unsigned long pfn, pgprot_t prot, bool pages)
{
	pte_t entry = pfn_pte(pfn, prot);

#ifdef CONFIG_ARCH_HAS_PTE_DEVMAP
	if (pages)
		return pte_mkdevmap(entry);
#endif
	return pte_mkspecial(entry);
}

#endif

#endif
