// SPDX-License-Identifier: GPL-2.0
/*
 * Regular files: one copy, from the memory to the reader.
 */
#include <linux/uio.h>

#include "compat.h"
#include "vfs.h"

static int daxfs_open(struct inode *inode, struct file *file)
{
	/* There is no cache to go round, and nobody waits: io_uring can read on the spot. */
	file->f_mode |= FMODE_CAN_ODIRECT | FMODE_NOWAIT;
	return generic_file_open(inode, file);
}

/* Poisoned memory and a bad buffer look alike; reading a byte tells. */
static int why_nothing(struct inode *inode, u64 offset)
{
	struct daxfs_error err;
	u8 byte;
	int ret = daxfs_region_read(&DAXFS_SB(inode->i_sb)->image.region, offset, &byte, 1, &err);

	return ret ? daxfs_report(inode->i_sb, ret, &err) : -EFAULT;
}

/* Copied at a time: between pieces others run, and who was killed ends. */
#define PIECE	((size_t)1 << 20)

/* Copies a piece; nobody takes the memory away meanwhile. */
static ssize_t read_piece(struct inode *inode, u64 offset, size_t len, struct iov_iter *to)
{
	struct daxfs_super *super = DAXFS_SB(inode->i_sb);
	int lock = srcu_read_lock(&super->readers);
	ssize_t copied = -EIO;

	if (!daxfs_is_gone(inode->i_sb))
		copied = _copy_mc_to_iter(super->image.region.start + offset, len, to);
	srcu_read_unlock(&super->readers, lock);
	return copied ?: why_nothing(inode, offset);
}

static ssize_t daxfs_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	const struct daxfs_region *region = &DAXFS_SB(inode->i_sb)->image.region;
	size_t count = iov_iter_count(to), done = 0;
	loff_t pos = iocb->ki_pos, size = inode->i_size;
	u64 start = DAXFS_I(inode)->data + pos;
	ssize_t copied;

	if (!count || pos >= size)
		return 0;
	count = min_t(u64, count, size - pos);
	/* The record was checked when the inode was read; what is used here has not changed since. */
	if (WARN_ON_ONCE(!daxfs_region_holds(region, start, count)))
		return -EUCLEAN;
	for (;;) {
		size_t len = min(count - done, PIECE);

		copied = read_piece(inode, start + done, len, to);
		if (copied > 0)
			done += copied;
		if (copied < (ssize_t)len || done == count)
			break;
		cond_resched();
		if (fatal_signal_pending(current))
			break;
	}
	iocb->ki_pos = pos + done;
	return done ?: copied;
}

const struct file_operations daxfs_file_operations = {
	.open = daxfs_open,
	/* Files are stored in one piece: all of it is data, and the hole is its end. */
	.llseek = generic_file_llseek,
	.read_iter = daxfs_read_iter,
	.splice_read = compat_splice_read,
	.mmap = daxfs_mmap,
	.fsync = noop_fsync,
	.setlease = generic_setlease,
	.get_unmapped_area = thp_get_unmapped_area,
};
