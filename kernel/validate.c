// SPDX-License-Identifier: GPL-2.0
/*
 * The proof of the base image: one bounded pass over everything that it says.
 *
 * Every byte is copied out once and judged from the copy. Work and memory grow with the bytes
 * that are really there. The first contradiction ends the proof; fsck.daxfs lists them all.
 */
#include "engine.h"

/* What later steps need to know of an inode, from the one copy that was judged. */
struct seen {
	u32 mode;
	u32 nlink;
	u32 names;	/* found in directories */
	u32 parent;	/* directory that holds this directory, 0 = none */
	u32 subdirs;
	u32 mark;
};

struct extent {
	u64 start;
	u64 size;
};

struct directory {
	struct daxfs_node node;
	u32 checksum;
};

/* An array that grows. */
struct list {
	void *items;
	u64 count;
	u64 room;
};

struct proof {
	const struct daxfs_superblock *sb;
	const struct daxfs_base *base;
	struct daxfs_error *err;
	bool strict;			/* plain version 3 does not keep link counts */
	struct seen *seen;
	struct list extents;
	struct list directories;
	unsigned long *set_starts;	/* a bit for each place where a set may start */
	char *target;
	u32 steps;			/* of loops that cannot end half way */
	bool killed;
};

static int append(struct list *list, const void *item, size_t size, struct daxfs_error *err)
{
	if (list->count == list->room) {
		u64 room = list->room ? list->room * 2 : 256;
		void *items = daxfs_alloc(room, size);

		if (!items)
			return daxfs_fail(err, ENOMEM, "proof", 0, "no memory");
		if (list->count)
			memcpy(items, list->items, list->count * size);
		kvfree(list->items);
		list->items = items;
		list->room = room;
	}
	memcpy((u8 *)list->items + list->count++ * size, item, size);
	return 0;
}

static int add_extent(struct proof *proof, u64 start, u64 size)
{
	struct extent extent = { start, size };

	return append(&proof->extents, &extent, sizeof(extent), proof->err);
}

/* Lets others run; a proof of a large image takes a while. */
static int breathe(struct proof *proof)
{
	cond_resched();
	if (fatal_signal_pending(current))
		return daxfs_fail(proof->err, EINTR, "proof", 0, "interrupted");
	return 0;
}

/* The same for step @step of a loop, now and then. */
static int pause_at(struct proof *proof, u64 step)
{
	return step % 1024 ? 0 : breathe(proof);
}

static int check_equal(struct proof *proof, const char *what, u64 at, u64 expected, u64 found)
{
	if (expected == found)
		return 0;
	return daxfs_corrupt(proof->err, what, at, "expected %#llx, found %#llx",
			     (unsigned long long)expected, (unsigned long long)found);
}

static int check_zeroes(struct proof *proof, const char *what, u64 at, const void *bytes,
			size_t len)
{
	const u8 *other = memchr_inv(bytes, 0, len);

	if (!other)
		return 0;
	return daxfs_corrupt(proof->err, what, at + (other - (const u8 *)bytes),
			     "expected 0x0, found %#x", *other);
}

/* Every attribute set, from the first to the end of their region. */
static int check_sets(struct proof *proof)
{
	const struct daxfs_base *base = proof->base;
	u64 at = base->xattr_start, bits;
	int ret;

	if (at == base->xattr_end)
		return 0;
	if (at % 8)
		return daxfs_corrupt(proof->err, "extended attributes", base->offset + 48,
				     "expected a multiple of 8, found %llu",
				     (unsigned long long)at);
	ret = add_extent(proof, at, base->xattr_end - at);
	if (ret)
		return ret;
	bits = (base->xattr_end - at) / 8 + 1;
	proof->set_starts = daxfs_alloc(BITS_TO_LONGS(bits), sizeof(long));
	if (!proof->set_starts)
		return daxfs_fail(proof->err, ENOMEM, "proof", 0, "no memory");
	while (at < base->xattr_end) {
		struct daxfs_xattr_set header;
		struct daxfs_xattr entry;
		struct daxfs_xattrs set;
		u32 sum;

		ret = daxfs_xattrs_open(base, at, &set, proof->err);
		if (ret)
			return ret;
		memcpy(&header, set.bytes, sizeof(header));
		sum = daxfs_crc32c(0, set.bytes + 8, set.size - 8);
		if (daxfs_base_has(base, DAXFS_CHECKSUMS))
			ret = check_equal(proof, "checksum of an attribute set", at + 4, sum,
					  le32_to_cpu(header.checksum));
		if (!ret)
			do
				ret = daxfs_xattrs_next(&set, &entry, proof->err);
			while (ret > 0);
		daxfs_xattrs_close(&set);
		ret = ret ?: breathe(proof);
		if (ret)
			return ret;
		__set_bit((at - base->xattr_start) / 8, proof->set_starts);
		at += set.size;
	}
	return 0;
}

/* The base superblock, from the copy that was kept when the image was opened. */
static int check_header(struct proof *proof)
{
	const struct daxfs_base *base = proof->base;
	const struct daxfs_base_superblock *header = base->header;
	u64 at = base->offset, data = le64_to_cpu(header->data_offset);
	u64 table_size = (u64)base->inode_count * sizeof(struct daxfs_base_inode);
	u64 table_end = base->inode_table - at + table_size;
	u32 sum = 0;
	int ret;

	if (!at)
		return 0;
	ret = check_equal(proof, "size of the base image", at + 16, base->size,
			  le64_to_cpu(header->total_size)) ?:
	      check_equal(proof, "flags of the base image", at + 8, 0, le32_to_cpu(header->flags));
	if (ret)
		return ret;
	if (data < table_end || data > base->size || data % DAXFS_BLOCK_SIZE)
		return daxfs_corrupt(proof->err, "start of the data", at + 40,
				     "expected a block boundary from %#llx to %#llx, found %#llx",
				     (unsigned long long)table_end, (unsigned long long)base->size,
				     (unsigned long long)data);
	if (le64_to_cpu(header->inode_offset) % DAXFS_BLOCK_SIZE)
		return daxfs_corrupt(proof->err, "inode table", at + 24,
				     "expected a block boundary, found %llu",
				     (unsigned long long)le64_to_cpu(header->inode_offset));
	if (daxfs_base_has(base, DAXFS_CHECKSUMS))
		sum = daxfs_crc32c(0, header, offsetof(struct daxfs_base_superblock, checksum));
	ret = check_equal(proof, "checksum of the base superblock", at + 4092, sum,
			  le32_to_cpu(header->checksum)) ?:
	      check_zeroes(proof, "reserved bytes of the base superblock", at + 64,
			   header->reserved, sizeof(header->reserved));
	if (!ret && !daxfs_base_has(base, DAXFS_XATTRS))
		ret = check_zeroes(proof, "attributes without their feature bit", at + 48,
				   &header->xattr_offset, 16);
	if (!ret && !proof->sb->branch_table_entries)
		ret = check_equal(proof, "next inode number", 64, (u64)base->inode_count + 1,
				  le64_to_cpu(proof->sb->next_inode_id));
	return ret ?: add_extent(proof, at, DAXFS_BLOCK_SIZE) ?:
	       add_extent(proof, base->inode_table, table_size) ?: check_sets(proof);
}

static int check_symlink(struct proof *proof, const struct daxfs_node *link, u32 checksum)
{
	const struct daxfs_base *base = proof->base;
	u64 at = daxfs_inode_offset(base, link->ino);
	size_t stored = link->size + 1, len;
	int ret;

	if (!link->size)
		return daxfs_corrupt(proof->err, "size of a symlink", at + 16,
				     "expected at least 1, found 0");
	ret = daxfs_region_read(base->region, link->data, proof->target, stored, proof->err);
	if (ret)
		return ret;
	len = strnlen(proof->target, stored);
	if (len != link->size)
		return daxfs_corrupt(proof->err, "target of a symlink", link->data,
				     "expected a NUL after %llu bytes, found %zu without",
				     (unsigned long long)link->size, len);
	if (!daxfs_base_has(base, DAXFS_CHECKSUMS))
		return 0;
	return check_equal(proof, "checksum of a symlink", at + 56,
			   daxfs_crc32c(0, proof->target, stored), checksum);
}

/* Fields that no feature bit gives a meaning are zero; plain version 3 is not held to it. */
static int check_unused(struct proof *proof, const struct daxfs_base_inode *raw,
			const struct daxfs_node *node)
{
	const struct daxfs_base *base = proof->base;
	u64 at = daxfs_inode_offset(base, node->ino);
	bool device = S_ISCHR(node->mode) || S_ISBLK(node->mode);
	bool summed = daxfs_base_has(base, S_ISREG(node->mode) ? DAXFS_DATA_CHECKSUMS :
								 DAXFS_CHECKSUMS);

	if (!daxfs_base_has(base, DAXFS_INODE_EXT))
		return 0;
	if (raw->rdev && !device)
		return daxfs_corrupt(proof->err, "device number", at + 36, "expected zero");
	if (raw->xattr_offset && !daxfs_base_has(base, DAXFS_XATTRS))
		return daxfs_corrupt(proof->err, "attribute set", at + 48, "expected zero");
	if (raw->data_checksum && !summed)
		return daxfs_corrupt(proof->err, "checksum of data", at + 56, "expected zero");
	if (raw->checksum && !daxfs_base_has(base, DAXFS_CHECKSUMS))
		return daxfs_corrupt(proof->err, "checksum of an inode", at + 60, "expected zero");
	return 0;
}

static int check_kind(struct proof *proof, const struct daxfs_node *node, u32 checksum)
{
	u64 at = daxfs_inode_offset(proof->base, node->ino);
	struct directory directory = { .node = *node, .checksum = checksum };

	switch (node->mode & S_IFMT) {
	case S_IFREG:
		return 0;
	case S_IFDIR:
		if (node->size % sizeof(struct daxfs_dirent))
			return daxfs_corrupt(proof->err, "size of a directory", at + 16,
					     "expected a multiple of 144, found %llu",
					     (unsigned long long)node->size);
		return append(&proof->directories, &directory, sizeof(directory), proof->err);
	case S_IFLNK:
		return check_symlink(proof, node, checksum);
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return check_equal(proof, "size of a special file", at + 16, 0, node->size);
	default:
		return daxfs_corrupt(proof->err, "mode of an inode", at + 4,
				     "expected a file type, found %#o", node->mode);
	}
}

static int check_inode(struct proof *proof, u32 ino)
{
	const struct daxfs_base *base = proof->base;
	u64 at = daxfs_inode_offset(base, ino);
	u64 data = base->offset + le64_to_cpu(base->header->data_offset);
	struct daxfs_base_inode raw;
	struct daxfs_node node;
	int ret;

	ret = daxfs_region_read(base->region, at, &raw, sizeof(raw), proof->err);
	if (!ret && daxfs_base_has(base, DAXFS_CHECKSUMS))
		ret = check_equal(proof, "checksum of an inode", at + 60,
				  daxfs_crc32c(0, &raw, offsetof(typeof(raw), checksum)),
				  le32_to_cpu(raw.checksum));
	ret = ret ?: daxfs_base_decode(base, ino, &raw, &node, proof->err) ?:
	      check_kind(proof, &node, le32_to_cpu(raw.data_checksum));
	if (ret)
		return ret;
	if (node.mode & ~(S_IFMT | 07777))
		return daxfs_corrupt(proof->err, "mode of an inode", at + 4,
				     "expected a file type, found %#o", node.mode);
	if (ino == DAXFS_ROOT_INO && !S_ISDIR(node.mode))
		return daxfs_corrupt(proof->err, "root inode", at + 4,
				     "expected a directory, found %#o", node.mode);
	ret = check_unused(proof, &raw, &node);
	if (ret)
		return ret;
	if (node.size && (node.data < data || node.data % DAXFS_BLOCK_SIZE))
		return daxfs_corrupt(proof->err, "data of an inode", at + 24,
				     "expected a block boundary from %#llx, found %#llx",
				     (unsigned long long)data, (unsigned long long)node.data);
	if (node.xattrs && ((node.xattrs - base->xattr_start) % 8 ||
			    !test_bit((node.xattrs - base->xattr_start) / 8, proof->set_starts)))
		return daxfs_corrupt(proof->err, "attribute set of an inode", at + 48,
				     "expected the start of a set, found %llu",
				     (unsigned long long)node.xattrs);
	proof->seen[ino - 1].mode = node.mode;
	proof->seen[ino - 1].nlink = node.nlink;
	return node.size ? add_extent(proof, node.data, daxfs_stored(&node)) : 0;
}

static int compare_extents(const void *a, const void *b, const void *private)
{
	struct proof *proof = (struct proof *)private;
	const struct extent *x = a, *y = b;

	if (pause_at(proof, ++proof->steps))
		proof->killed = true;
	/* What is left of the work is then next to none. */
	if (proof->killed)
		return 0;
	return (x->start > y->start) - (x->start < y->start) ?:
	       (x->size > y->size) - (x->size < y->size);
}

/* No byte of the base image belongs to two owners. */
static int check_overlaps(struct proof *proof)
{
	struct extent *extents = proof->extents.items;
	u64 end = 0, i;
	int ret;

	sort_r(extents, proof->extents.count, sizeof(*extents), compare_extents, NULL, proof);
	for (i = 0; i < proof->extents.count; i++) {
		ret = pause_at(proof, i);
		if (ret)
			return ret;
		if (extents[i].start < end)
			return daxfs_corrupt(proof->err, "data of an inode", extents[i].start,
					     "expected to start at or after %#llx",
					     (unsigned long long)end);
		end = max(end, extents[i].start + extents[i].size);
	}
	return 0;
}

/* Arrays that lie apart fit together; sharing one would make the work quadratic. */
static int check_claims(struct proof *proof)
{
	const struct directory *directories = proof->directories.items;
	u64 room = min_t(u64, proof->base->size / sizeof(struct daxfs_dirent), U32_MAX);
	u64 claimed = 0, i;
	int ret;

	for (i = 0; i < proof->directories.count; i++) {
		ret = pause_at(proof, i);
		if (ret)
			return ret;
		claimed += daxfs_dirent_count(&directories[i].node);
		if (claimed > room)
			return daxfs_corrupt(proof->err, "entries of all directories",
					     proof->base->offset, "expected at most %llu",
					     (unsigned long long)room);
	}
	return 0;
}

/* The inode that a dirent names exists and has the type it says; the name is counted. */
static int check_target(struct proof *proof, u32 directory, u64 at,
			const struct daxfs_dirent *entry)
{
	u32 ino = le32_to_cpu(entry->ino), mode = le32_to_cpu(entry->mode);
	struct seen *seen;

	if (!ino || ino > proof->base->inode_count)
		return daxfs_corrupt(proof->err, "inode of a dirent", at,
				     "expected 1 to %u, found %u", proof->base->inode_count, ino);
	seen = &proof->seen[ino - 1];
	seen->names++;
	/* Plain version 3 keeps the type right; permissions there may lag behind. */
	if ((seen->mode ^ mode) & (proof->strict ? U32_MAX : S_IFMT))
		return daxfs_corrupt(proof->err, "mode of a dirent", at + 4,
				     "expected %#o, as inode %u says, found %#o", seen->mode, ino,
				     mode);
	if (S_ISDIR(seen->mode))
		seen->parent = max(seen->parent, directory);
	return 0;
}

static int check_dirent(struct proof *proof, u32 directory, u64 at,
			const struct daxfs_dirent *entry, const struct daxfs_dirent *before)
{
	size_t len = le16_to_cpu(entry->name_len), last = le16_to_cpu(before->name_len);
	int way;

	if (!len || len > DAXFS_NAME_MAX)
		return daxfs_corrupt(proof->err, "length of a name", at + 8,
				     "expected 1 to 128, found %zu", len);
	if (!daxfs_name_is_legal(entry))
		return daxfs_corrupt(proof->err, "name", at + 16,
				     "expected neither . nor .., no slash, no NUL");
	if (daxfs_base_has(proof->base, DAXFS_SORTED_DIRS)) {
		if (memchr_inv(entry->reserved, 0, sizeof(entry->reserved)) ||
		    memchr_inv(entry->name + len, 0, DAXFS_NAME_MAX - len))
			return daxfs_corrupt(proof->err, "padding of a dirent", at,
					     "expected zeroes, found other bytes");
		way = memcmp(before->name, entry->name, min(last, len));
		if (way > 0 || (!way && last >= len))
			return daxfs_corrupt(proof->err, "order of names", at + 16,
					     "expected a name after the one before");
	}
	return check_target(proof, directory, at, entry);
}

/* In a directory that is not sorted, each name once. */
static int check_unique(struct proof *proof, const struct daxfs_node *node)
{
	const struct daxfs_base *base = proof->base;
	struct daxfs_dirent entry[2] = {};
	u32 *order = daxfs_base_order(base, node, proof->err);
	u64 i, count = daxfs_dirent_count(node);
	int ret = 0;

	if (IS_ERR(order))
		return PTR_ERR(order);
	for (i = 0; i < count && !ret; i++) {
		ret = daxfs_base_dirent(base, node, order[i], &entry[i % 2], proof->err) ?:
		      pause_at(proof, i);
		if (!ret && i && entry[0].name_len == entry[1].name_len &&
		    !memcmp(entry[0].name, entry[1].name, le16_to_cpu(entry[0].name_len)))
			ret = daxfs_corrupt(proof->err, "name", node->data + order[i] * 144ull + 16,
					    "expected each name once in a directory");
	}
	kvfree(order);
	return ret;
}

static int check_directory(struct proof *proof, const struct directory *directory)
{
	const struct daxfs_node *node = &directory->node;
	struct daxfs_dirent entry[2] = {};
	u64 i, count = daxfs_dirent_count(node);
	u32 sum = 0;
	int ret;

	for (i = 0; i < count; i++) {
		struct daxfs_dirent *now = &entry[i % 2];
		u64 at = node->data + i * sizeof(*now);

		ret = daxfs_region_read(proof->base->region, at, now, sizeof(*now), proof->err) ?:
		      check_dirent(proof, node->ino, at, now, &entry[(i + 1) % 2]);
		ret = ret ?: pause_at(proof, i);
		if (ret)
			return ret;
		sum = daxfs_crc32c(sum, now, sizeof(*now));
	}
	if (!daxfs_base_has(proof->base, DAXFS_SORTED_DIRS)) {
		ret = check_unique(proof, node);
		if (ret)
			return ret;
	}
	if (!daxfs_base_has(proof->base, DAXFS_CHECKSUMS))
		return 0;
	return check_equal(proof, "checksum of a directory",
			   daxfs_inode_offset(proof->base, node->ino) + 56, sum,
			   directory->checksum);
}

enum { UNKNOWN, WALKED, ARRIVES };

/* Marks directories that bear the mark @from, upwards from @at; returns the first that does not. */
static u32 mark_way(struct proof *proof, u32 at, u32 from, u32 to)
{
	struct seen *seen = proof->seen;

	for (; at && seen[at - 1].mark == from; at = seen[at - 1].parent) {
		seen[at - 1].mark = to;
		if (!(++proof->steps % 1024))
			cond_resched();
	}
	return at;
}

/* Every directory leads up to the root: each is walked once, what is known to arrive is marked. */
static int check_cycles(struct proof *proof)
{
	const struct directory *directories = proof->directories.items;
	struct seen *seen = proof->seen;
	u64 i;
	int ret;

	if (proof->base->inode_count)
		seen[DAXFS_ROOT_INO - 1].mark = ARRIVES;
	for (i = 0; i < proof->directories.count; i++) {
		u32 ino = directories[i].node.ino, at;

		ret = pause_at(proof, i);
		if (ret)
			return ret;
		at = mark_way(proof, ino, UNKNOWN, WALKED);
		if (!at || seen[at - 1].mark == WALKED)
			return daxfs_corrupt(proof->err, "directory",
					     daxfs_inode_offset(proof->base, at ?: ino),
					     "expected a way up to the root, found a cycle");
		mark_way(proof, ino, WALKED, ARRIVES);
	}
	return 0;
}

/* Every inode reached from the root, directories by one name, link counts right. */
static int check_shape(struct proof *proof)
{
	const struct daxfs_base *base = proof->base;
	struct seen *seen = proof->seen;
	u32 ino;
	int ret;

	for (ino = 1; ino <= base->inode_count; ino++) {
		struct seen *it = &seen[ino - 1];
		u64 at = daxfs_inode_offset(base, ino);

		if (ino != DAXFS_ROOT_INO && !it->names)
			return daxfs_corrupt(proof->err, "inode", at,
					     "expected a name in a directory, found none");
		if (S_ISDIR(it->mode) && it->names != (ino != DAXFS_ROOT_INO))
			return daxfs_corrupt(proof->err, "directory", at,
					     "expected one name, none for the root, found %u",
					     it->names);
		if (S_ISDIR(it->mode) && it->parent)
			seen[it->parent - 1].subdirs++;
		ret = pause_at(proof, ino);
		if (ret)
			return ret;
	}
	for (ino = 1; ino <= base->inode_count && proof->strict; ino++) {
		struct seen *it = &seen[ino - 1];
		u32 expected = S_ISDIR(it->mode) ? 2 + it->subdirs : it->names;

		if (it->nlink != expected)
			return daxfs_corrupt(proof->err, "link count",
					     daxfs_inode_offset(base, ino) + 32,
					     "expected %u, found %u", expected, it->nlink);
		ret = pause_at(proof, ino);
		if (ret)
			return ret;
	}
	return check_cycles(proof);
}

static int prove(struct proof *proof)
{
	const struct daxfs_base *base = proof->base;
	const struct directory *directories;
	u64 i;
	int ret;

	ret = check_header(proof);
	for (i = 1; i <= base->inode_count && !ret; i++)
		ret = check_inode(proof, i) ?: pause_at(proof, i);
	ret = ret ?: check_overlaps(proof) ?: check_claims(proof);
	directories = proof->directories.items;
	for (i = 0; i < proof->directories.count && !ret; i++)
		ret = check_directory(proof, &directories[i]) ?: pause_at(proof, i);
	return ret ?: check_shape(proof);
}

/* Proves everything that the format demands of the base image of an opened image. */
int daxfs_validate(const struct daxfs_image *image, struct daxfs_error *err)
{
	struct proof proof = {
		.sb = image->superblock,
		.base = &image->base,
		.err = err,
		.strict = daxfs_base_has(&image->base, DAXFS_INODE_EXT | DAXFS_BRANCHES),
	};
	int ret;

	proof.seen = daxfs_alloc(image->base.inode_count ?: 1, sizeof(*proof.seen));
	proof.target = daxfs_alloc(1, DAXFS_TARGET_MAX + 1);
	if (proof.seen && proof.target)
		ret = prove(&proof);
	else
		ret = daxfs_fail(err, ENOMEM, "proof", 0, "no memory");
	kvfree(proof.target);
	kvfree(proof.seen);
	kvfree(proof.set_starts);
	kvfree(proof.extents.items);
	kvfree(proof.directories.items);
	return ret;
}
