/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every on-memory structure and constant of the format, and no logic.
 *
 * docs/format.md is the specification; this file is its C form, and bears its names.
 */
#ifndef DAXFS_FORMAT_H
#define DAXFS_FORMAT_H

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include "tests/shim.h"
#endif

#define DAXFS_MAGIC3		0x64617833
#define DAXFS_BASE_MAGIC	0x64646179
#define DAXFS_VERSION		3
#define DAXFS_BLOCK_SIZE	4096
#define DAXFS_ROOT_INO		1
#define DAXFS_NAME_MAX		128
#define DAXFS_TARGET_MAX	4095
#define DAXFS_INODES_MAX	(1u << 30)
#define DAXFS_BRANCH_RECORDS	256
#define DAXFS_OPENER_ENTRIES	256
#define DAXFS_MAIN_ID		1
#define DAXFS_XATTR_NAME_MAX	255
#define DAXFS_XATTR_VALUE_MAX	65536
#define DAXFS_XATTR_SET_MAX	(1u << 20)

/* Feature bits of the superblock: 0-15 compatible, 16-31 incompatible. */
#define DAXFS_SORTED_DIRS	(1u << 0)
#define DAXFS_INODE_EXT		(1u << 1)
#define DAXFS_XATTRS		(1u << 2)
#define DAXFS_CHECKSUMS		(1u << 3)
#define DAXFS_DATA_CHECKSUMS	(1u << 4)
#define DAXFS_IDENTITY		(1u << 5)
#define DAXFS_BRANCHES		(1u << 16)
#define DAXFS_INCOMPATIBLE	0xffff0000u
#define DAXFS_KNOWN_INCOMPATIBLE DAXFS_BRANCHES

/* States of a branch record. */
#define DAXFS_BRANCH_FREE	0
#define DAXFS_BRANCH_ACTIVE	1
#define DAXFS_BRANCH_COMMITTED	2
#define DAXFS_BRANCH_ABORTED	3

#define DAXFS_AT(type, field, at) \
	static_assert(offsetof(struct type, field) == (at))

/* superblock */
struct daxfs_superblock {
	__le32 magic;
	__le32 version;
	__le32 flags;
	__le32 block_size;
	__le64 total_size;
	__le64 base_offset;
	__le64 base_size;
	__le64 branch_table_offset;
	__le32 branch_table_entries;
	__le32 active_branches;
	__le64 next_branch_id;
	__le64 next_inode_id;
	__le64 delta_region_offset;
	__le64 delta_region_size;
	__le64 delta_alloc_offset;
	__u8 uuid[16];
	__u8 label[64];
	__le64 owner_map_offset;
	__le64 opener_table_offset;
	__le32 opener_table_entries;
	__le32 reserve_slots;
	__le64 heap_offset;
	__le64 heap_blocks;
	__le64 reserve_blocks;
	__u8 reserved[796];
	__le32 checksum;
	__le64 head;
	__u8 reserved_head[56];
	__le64 epoch;
	__u8 reserved_epoch[56];
	__le64 maint;
	__u8 reserved_maint[56];
	__le64 alloc_hint;
	__u8 reserved_end[2872];
};

static_assert(sizeof(struct daxfs_superblock) == 4096);
DAXFS_AT(daxfs_superblock, magic, 0);
DAXFS_AT(daxfs_superblock, version, 4);
DAXFS_AT(daxfs_superblock, flags, 8);
DAXFS_AT(daxfs_superblock, block_size, 12);
DAXFS_AT(daxfs_superblock, total_size, 16);
DAXFS_AT(daxfs_superblock, base_offset, 24);
DAXFS_AT(daxfs_superblock, base_size, 32);
DAXFS_AT(daxfs_superblock, branch_table_offset, 40);
DAXFS_AT(daxfs_superblock, branch_table_entries, 48);
DAXFS_AT(daxfs_superblock, active_branches, 52);
DAXFS_AT(daxfs_superblock, next_branch_id, 56);
DAXFS_AT(daxfs_superblock, next_inode_id, 64);
DAXFS_AT(daxfs_superblock, delta_region_offset, 72);
DAXFS_AT(daxfs_superblock, delta_region_size, 80);
DAXFS_AT(daxfs_superblock, delta_alloc_offset, 88);
DAXFS_AT(daxfs_superblock, uuid, 96);
DAXFS_AT(daxfs_superblock, label, 112);
DAXFS_AT(daxfs_superblock, owner_map_offset, 176);
DAXFS_AT(daxfs_superblock, opener_table_offset, 184);
DAXFS_AT(daxfs_superblock, opener_table_entries, 192);
DAXFS_AT(daxfs_superblock, reserve_slots, 196);
DAXFS_AT(daxfs_superblock, heap_offset, 200);
DAXFS_AT(daxfs_superblock, heap_blocks, 208);
DAXFS_AT(daxfs_superblock, reserve_blocks, 216);
DAXFS_AT(daxfs_superblock, reserved, 224);
DAXFS_AT(daxfs_superblock, checksum, 1020);
DAXFS_AT(daxfs_superblock, head, 1024);
DAXFS_AT(daxfs_superblock, reserved_head, 1032);
DAXFS_AT(daxfs_superblock, epoch, 1088);
DAXFS_AT(daxfs_superblock, reserved_epoch, 1096);
DAXFS_AT(daxfs_superblock, maint, 1152);
DAXFS_AT(daxfs_superblock, reserved_maint, 1160);
DAXFS_AT(daxfs_superblock, alloc_hint, 1216);
DAXFS_AT(daxfs_superblock, reserved_end, 1224);

/* base superblock */
struct daxfs_base_superblock {
	__le32 magic;
	__le32 version;
	__le32 flags;
	__le32 block_size;
	__le64 total_size;
	__le64 inode_offset;
	__le32 inode_count;
	__le32 root_inode;
	__le64 data_offset;
	__le64 xattr_offset;
	__le64 xattr_size;
	__u8 reserved[4028];
	__le32 checksum;
};

static_assert(sizeof(struct daxfs_base_superblock) == 4096);
DAXFS_AT(daxfs_base_superblock, magic, 0);
DAXFS_AT(daxfs_base_superblock, version, 4);
DAXFS_AT(daxfs_base_superblock, flags, 8);
DAXFS_AT(daxfs_base_superblock, block_size, 12);
DAXFS_AT(daxfs_base_superblock, total_size, 16);
DAXFS_AT(daxfs_base_superblock, inode_offset, 24);
DAXFS_AT(daxfs_base_superblock, inode_count, 32);
DAXFS_AT(daxfs_base_superblock, root_inode, 36);
DAXFS_AT(daxfs_base_superblock, data_offset, 40);
DAXFS_AT(daxfs_base_superblock, xattr_offset, 48);
DAXFS_AT(daxfs_base_superblock, xattr_size, 56);
DAXFS_AT(daxfs_base_superblock, reserved, 64);
DAXFS_AT(daxfs_base_superblock, checksum, 4092);

/* base inode */
struct daxfs_base_inode {
	__le32 ino;
	__le32 mode;
	__le32 uid;
	__le32 gid;
	__le64 size;
	__le64 data_offset;
	__le32 nlink;
	__le32 rdev;
	__le64 mtime;
	__le64 xattr_offset;
	__le32 data_checksum;
	__le32 checksum;
};

static_assert(sizeof(struct daxfs_base_inode) == 64);
DAXFS_AT(daxfs_base_inode, ino, 0);
DAXFS_AT(daxfs_base_inode, mode, 4);
DAXFS_AT(daxfs_base_inode, uid, 8);
DAXFS_AT(daxfs_base_inode, gid, 12);
DAXFS_AT(daxfs_base_inode, size, 16);
DAXFS_AT(daxfs_base_inode, data_offset, 24);
DAXFS_AT(daxfs_base_inode, nlink, 32);
DAXFS_AT(daxfs_base_inode, rdev, 36);
DAXFS_AT(daxfs_base_inode, mtime, 40);
DAXFS_AT(daxfs_base_inode, xattr_offset, 48);
DAXFS_AT(daxfs_base_inode, data_checksum, 56);
DAXFS_AT(daxfs_base_inode, checksum, 60);

/* dirent */
struct daxfs_dirent {
	__le32 ino;
	__le32 mode;
	__le16 name_len;
	__u8 reserved[6];
	__u8 name[128];
};

static_assert(sizeof(struct daxfs_dirent) == 144);
DAXFS_AT(daxfs_dirent, ino, 0);
DAXFS_AT(daxfs_dirent, mode, 4);
DAXFS_AT(daxfs_dirent, name_len, 8);
DAXFS_AT(daxfs_dirent, reserved, 10);
DAXFS_AT(daxfs_dirent, name, 16);

/* xattr set */
struct daxfs_xattr_set {
	__le32 size;
	__le32 checksum;
	__le32 count;
	__u8 reserved[4];
};

static_assert(sizeof(struct daxfs_xattr_set) == 16);
DAXFS_AT(daxfs_xattr_set, size, 0);
DAXFS_AT(daxfs_xattr_set, checksum, 4);
DAXFS_AT(daxfs_xattr_set, count, 8);
DAXFS_AT(daxfs_xattr_set, reserved, 12);

/* xattr entry */
struct daxfs_xattr_entry {
	__le16 name_len;
	__u8 reserved[2];
	__le32 value_len;
};

static_assert(sizeof(struct daxfs_xattr_entry) == 8);
DAXFS_AT(daxfs_xattr_entry, name_len, 0);
DAXFS_AT(daxfs_xattr_entry, reserved, 2);
DAXFS_AT(daxfs_xattr_entry, value_len, 4);

/* branch record */
struct daxfs_branch_record {
	__le64 branch_id;
	__le64 parent_id;
	__le64 delta_log_offset;
	__le64 delta_log_size;
	__le64 delta_log_capacity;
	__le32 state;
	__le32 refcount;
	__le64 next_local_ino;
	__u8 name[32];
	__le64 owner;
	__le64 base_size;
	__le64 base_head;
	__le32 flags;
	__le32 checksum;
	__le64 stamp;
};

static_assert(sizeof(struct daxfs_branch_record) == 128);
DAXFS_AT(daxfs_branch_record, branch_id, 0);
DAXFS_AT(daxfs_branch_record, parent_id, 8);
DAXFS_AT(daxfs_branch_record, delta_log_offset, 16);
DAXFS_AT(daxfs_branch_record, delta_log_size, 24);
DAXFS_AT(daxfs_branch_record, delta_log_capacity, 32);
DAXFS_AT(daxfs_branch_record, state, 40);
DAXFS_AT(daxfs_branch_record, refcount, 44);
DAXFS_AT(daxfs_branch_record, next_local_ino, 48);
DAXFS_AT(daxfs_branch_record, name, 56);
DAXFS_AT(daxfs_branch_record, owner, 88);
DAXFS_AT(daxfs_branch_record, base_size, 96);
DAXFS_AT(daxfs_branch_record, base_head, 104);
DAXFS_AT(daxfs_branch_record, flags, 112);
DAXFS_AT(daxfs_branch_record, checksum, 116);
DAXFS_AT(daxfs_branch_record, stamp, 120);

/* opener entry */
struct daxfs_opener_entry {
	__le64 opener_id;
	__le64 pin;
	__le64 host;
	__le64 boot;
	__le32 pid;
	__le32 proof;
	__le64 pid_namespace;
	__le64 start_time;
	__le64 heartbeat;
};

static_assert(sizeof(struct daxfs_opener_entry) == 64);
DAXFS_AT(daxfs_opener_entry, opener_id, 0);
DAXFS_AT(daxfs_opener_entry, pin, 8);
DAXFS_AT(daxfs_opener_entry, host, 16);
DAXFS_AT(daxfs_opener_entry, boot, 24);
DAXFS_AT(daxfs_opener_entry, pid, 32);
DAXFS_AT(daxfs_opener_entry, proof, 36);
DAXFS_AT(daxfs_opener_entry, pid_namespace, 40);
DAXFS_AT(daxfs_opener_entry, start_time, 48);
DAXFS_AT(daxfs_opener_entry, heartbeat, 56);

/* log entry header */
struct daxfs_entry_header {
	__le32 kind;
	__le32 total_size;
	__le64 ino;
	__le64 timestamp;
};

static_assert(sizeof(struct daxfs_entry_header) == 24);
DAXFS_AT(daxfs_entry_header, kind, 0);
DAXFS_AT(daxfs_entry_header, total_size, 4);
DAXFS_AT(daxfs_entry_header, ino, 8);
DAXFS_AT(daxfs_entry_header, timestamp, 16);

/* WRITE */
struct daxfs_write_body {
	__le64 offset;
	__le32 len;
	__le32 flags;
};

static_assert(sizeof(struct daxfs_write_body) == 16);
DAXFS_AT(daxfs_write_body, offset, 0);
DAXFS_AT(daxfs_write_body, len, 8);
DAXFS_AT(daxfs_write_body, flags, 12);

/* CREATE, MKDIR */
struct daxfs_create_body {
	__le64 parent_ino;
	__le64 new_ino;
	__le32 mode;
	__le16 name_len;
	__le16 flags;
};

static_assert(sizeof(struct daxfs_create_body) == 24);
DAXFS_AT(daxfs_create_body, parent_ino, 0);
DAXFS_AT(daxfs_create_body, new_ino, 8);
DAXFS_AT(daxfs_create_body, mode, 16);
DAXFS_AT(daxfs_create_body, name_len, 20);
DAXFS_AT(daxfs_create_body, flags, 22);

/* DELETE */
struct daxfs_delete_body {
	__le64 parent_ino;
	__le16 name_len;
	__le16 flags;
	__le32 reserved;
};

static_assert(sizeof(struct daxfs_delete_body) == 16);
DAXFS_AT(daxfs_delete_body, parent_ino, 0);
DAXFS_AT(daxfs_delete_body, name_len, 8);
DAXFS_AT(daxfs_delete_body, flags, 10);
DAXFS_AT(daxfs_delete_body, reserved, 12);

/* TRUNCATE */
struct daxfs_truncate_body {
	__le64 new_size;
};

static_assert(sizeof(struct daxfs_truncate_body) == 8);
DAXFS_AT(daxfs_truncate_body, new_size, 0);

/* RENAME */
struct daxfs_rename_body {
	__le64 old_parent;
	__le64 new_parent;
	__le64 ino;
	__le16 old_name_len;
	__le16 new_name_len;
	__le32 flags;
};

static_assert(sizeof(struct daxfs_rename_body) == 32);
DAXFS_AT(daxfs_rename_body, old_parent, 0);
DAXFS_AT(daxfs_rename_body, new_parent, 8);
DAXFS_AT(daxfs_rename_body, ino, 16);
DAXFS_AT(daxfs_rename_body, old_name_len, 24);
DAXFS_AT(daxfs_rename_body, new_name_len, 26);
DAXFS_AT(daxfs_rename_body, flags, 28);

/* SETATTR */
struct daxfs_setattr_body {
	__le32 mode;
	__le32 uid;
	__le32 gid;
	__le32 valid;
	__le64 size;
};

static_assert(sizeof(struct daxfs_setattr_body) == 24);
DAXFS_AT(daxfs_setattr_body, mode, 0);
DAXFS_AT(daxfs_setattr_body, uid, 4);
DAXFS_AT(daxfs_setattr_body, gid, 8);
DAXFS_AT(daxfs_setattr_body, valid, 12);
DAXFS_AT(daxfs_setattr_body, size, 16);

/* SYMLINK */
struct daxfs_symlink_body {
	__le64 parent_ino;
	__le64 new_ino;
	__le16 name_len;
	__le16 target_len;
	__le32 reserved;
};

static_assert(sizeof(struct daxfs_symlink_body) == 24);
DAXFS_AT(daxfs_symlink_body, parent_ino, 0);
DAXFS_AT(daxfs_symlink_body, new_ino, 8);
DAXFS_AT(daxfs_symlink_body, name_len, 16);
DAXFS_AT(daxfs_symlink_body, target_len, 18);
DAXFS_AT(daxfs_symlink_body, reserved, 20);

/* SETATTR times */
struct daxfs_setattr_times {
	__le64 atime;
	__le64 mtime;
	__le64 ctime;
};

static_assert(sizeof(struct daxfs_setattr_times) == 24);
DAXFS_AT(daxfs_setattr_times, atime, 0);
DAXFS_AT(daxfs_setattr_times, mtime, 8);
DAXFS_AT(daxfs_setattr_times, ctime, 16);

/* CONTINUE */
struct daxfs_continue_body {
	__le64 next;
	__le64 capacity;
};

static_assert(sizeof(struct daxfs_continue_body) == 16);
DAXFS_AT(daxfs_continue_body, next, 0);
DAXFS_AT(daxfs_continue_body, capacity, 8);

/* MKNOD */
struct daxfs_mknod_body {
	__le64 parent_ino;
	__le32 mode;
	__le32 uid;
	__le32 gid;
	__le32 rdev;
	__le16 name_len;
	__le16 target_len;
	__u8 reserved[4];
};

static_assert(sizeof(struct daxfs_mknod_body) == 32);
DAXFS_AT(daxfs_mknod_body, parent_ino, 0);
DAXFS_AT(daxfs_mknod_body, mode, 8);
DAXFS_AT(daxfs_mknod_body, uid, 12);
DAXFS_AT(daxfs_mknod_body, gid, 16);
DAXFS_AT(daxfs_mknod_body, rdev, 20);
DAXFS_AT(daxfs_mknod_body, name_len, 24);
DAXFS_AT(daxfs_mknod_body, target_len, 26);
DAXFS_AT(daxfs_mknod_body, reserved, 28);

/* LINK */
struct daxfs_link_body {
	__le64 parent_ino;
	__le16 name_len;
	__u8 reserved[6];
};

static_assert(sizeof(struct daxfs_link_body) == 16);
DAXFS_AT(daxfs_link_body, parent_ino, 0);
DAXFS_AT(daxfs_link_body, name_len, 8);
DAXFS_AT(daxfs_link_body, reserved, 10);

/* EXTENT */
struct daxfs_extent_body {
	__le64 offset;
	__le64 len;
	__le64 image_offset;
	__le32 flags;
	__u8 reserved[4];
};

static_assert(sizeof(struct daxfs_extent_body) == 32);
DAXFS_AT(daxfs_extent_body, offset, 0);
DAXFS_AT(daxfs_extent_body, len, 8);
DAXFS_AT(daxfs_extent_body, image_offset, 16);
DAXFS_AT(daxfs_extent_body, flags, 24);
DAXFS_AT(daxfs_extent_body, reserved, 28);

/* PUNCH */
struct daxfs_punch_body {
	__le64 offset;
	__le64 len;
};

static_assert(sizeof(struct daxfs_punch_body) == 16);
DAXFS_AT(daxfs_punch_body, offset, 0);
DAXFS_AT(daxfs_punch_body, len, 8);

/* XATTR */
struct daxfs_xattr_body {
	__le16 name_len;
	__le16 flags;
	__le32 value_len;
};

static_assert(sizeof(struct daxfs_xattr_body) == 8);
DAXFS_AT(daxfs_xattr_body, name_len, 0);
DAXFS_AT(daxfs_xattr_body, flags, 2);
DAXFS_AT(daxfs_xattr_body, value_len, 4);

#endif
