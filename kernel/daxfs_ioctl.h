/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * Control of branches through a mount: ioctls on the root directory of the mount.
 *
 * The FUSE server takes them. The kernel's module, which only reads base images, has none yet; it
 * is to take the same numbers and structures. Names are bytes that end with a NUL. Anybody may list
 * branches and ask what is mounted; all else is for root, for who mounted, and for who may write to
 * the root directory, others get EACCES.
 *
 * Errors: ENOENT no such branch, EEXIST there is one of that name, EBUSY another party holds it or
 * it has children, EROFS mounted for reading, ESTALE it has ended, ENOSPC no record is free,
 * EINVAL not a name, EOPNOTSUPP the mount has no branches to control, ENOTTY not the root of a daxfs
 * mount.
 */
#ifndef _DAXFS_IOCTL_H
#define _DAXFS_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DAXFS_IOC_MAGIC		0xDA
#define DAXFS_IOC_NAME_SIZE	32
#define DAXFS_IOC_LIST_MAX	32

/* A branch; an empty name stands for the one that is mounted. */
struct daxfs_ioc_name {
	__u8 name[DAXFS_IOC_NAME_SIZE];
};

/* A branch to be made, and what it is made from. */
struct daxfs_ioc_create {
	__u8 name[DAXFS_IOC_NAME_SIZE];
	__u8 parent[DAXFS_IOC_NAME_SIZE];
};

#define DAXFS_IOC_MOUNTED	0x01	/* what the mount shows */
#define DAXFS_IOC_FROZEN	0x02	/* was branched from */
#define DAXFS_IOC_OWNED		0x04	/* somebody may write: owner_pid */
#define DAXFS_IOC_OWNER_DEAD	0x08	/* and is proved dead */
#define DAXFS_IOC_QUARANTINED	0x10	/* was taken by force */

struct daxfs_ioc_branch {
	__u64 id;
	__u64 log_bytes;
	__u64 blocks;		/* of 4096 bytes, log and file data */
	__u64 created;		/* ns since 1970; 0 = with the image */
	__u32 flags;
	__u32 owner_pid;
	__u8 name[DAXFS_IOC_NAME_SIZE];
	__u8 parent[DAXFS_IOC_NAME_SIZE];	/* empty: none */
};

/*
 * A part of the list, in order of ids but for main, which is first: 0 as `after` asks for the first
 * part, the id of the last branch for the next one. A part with fewer than DAXFS_IOC_LIST_MAX is the
 * last. Where `main`, the id of main, has changed in between, parts do not belong together.
 */
struct daxfs_ioc_list {
	__u64 after;
	__u64 main;
	__u32 count;
	__u32 reserved;
	struct daxfs_ioc_branch branches[DAXFS_IOC_LIST_MAX];
};

#define DAXFS_IOC_WRITES	0x01	/* branches may be written: a remount can make the mount so */

/* The image that is mounted, and how. */
struct daxfs_ioc_info {
	__u8 uuid[16];
	__u32 flags;
	__u32 server_pid;
};

/* Make a branch, and show it instead of what the mount shows. */
#define DAXFS_IOC_CREATE	_IOW(DAXFS_IOC_MAGIC, 1, struct daxfs_ioc_create)
/* Show another branch. */
#define DAXFS_IOC_SWITCH	_IOW(DAXFS_IOC_MAGIC, 2, struct daxfs_ioc_name)
/* Commit a branch; if it is the one that is mounted, main is shown then. */
#define DAXFS_IOC_COMMIT	_IOW(DAXFS_IOC_MAGIC, 3, struct daxfs_ioc_name)
/* Abort a branch; if it is the one that is mounted, its parent is shown then. */
#define DAXFS_IOC_ABORT		_IOW(DAXFS_IOC_MAGIC, 4, struct daxfs_ioc_name)
/* List the branches that live, main first. */
#define DAXFS_IOC_LIST		_IOWR(DAXFS_IOC_MAGIC, 5, struct daxfs_ioc_list)
/* Tell what is mounted. */
#define DAXFS_IOC_INFO		_IOR(DAXFS_IOC_MAGIC, 6, struct daxfs_ioc_info)

#endif
