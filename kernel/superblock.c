// SPDX-License-Identifier: GPL-2.0
/*
 * The superblock: read once and checked as a whole.
 */
#include "engine.h"

#define SUM_AT	offsetof(struct daxfs_superblock, checksum)
#define NEXT_AT	offsetof(struct daxfs_superblock, next_inode_id)

/* Reads the superblock and refuses what cannot be an image for this version. */
int daxfs_superblock_read(const struct daxfs_region *region, struct daxfs_superblock *sb,
			  struct daxfs_error *err)
{
	u32 unknown;
	int ret;

	if (region->size < sizeof(*sb))
		return daxfs_corrupt(err, "superblock", 0, "expected %zu bytes, found %llu",
				     sizeof(*sb), (unsigned long long)region->size);
	ret = daxfs_region_read(region, 0, sb, sizeof(*sb), err);
	if (ret)
		return ret;
	if (le32_to_cpu(sb->magic) != DAXFS_MAGIC3)
		return daxfs_corrupt(err, "magic number of the superblock", 0,
				     "expected %#x, found %#x (not a daxfs image)", DAXFS_MAGIC3,
				     le32_to_cpu(sb->magic));
	if (le32_to_cpu(sb->version) != DAXFS_VERSION)
		return daxfs_fail(err, EOPNOTSUPP, "format version", 4, "%u, only 3 is known",
				  le32_to_cpu(sb->version));
	unknown = le32_to_cpu(sb->flags) & DAXFS_INCOMPATIBLE & ~DAXFS_KNOWN_INCOMPATIBLE;
	if (unknown)
		return daxfs_fail(err, EOPNOTSUPP, "features", 8,
				  "incompatible feature bit %d is not known", ffs(unknown) - 1);
	return 0;
}

static int check_equal(const char *what, u64 at, u64 expected, u64 found, struct daxfs_error *err)
{
	if (expected == found)
		return 0;
	return daxfs_corrupt(err, what, at, "expected %#llx, found %#llx",
			     (unsigned long long)expected, (unsigned long long)found);
}

static int check_zeroes(const struct daxfs_superblock *sb, const char *what, size_t from,
			size_t to, struct daxfs_error *err)
{
	const u8 *other = memchr_inv((const u8 *)sb + from, 0, to - from);

	if (!other)
		return 0;
	return daxfs_corrupt(err, what, other - (const u8 *)sb, "expected 0x0, found %#x", *other);
}

static int check_reserved(const struct daxfs_superblock *sb, struct daxfs_error *err)
{
	static const struct {
		u32 unless;	/* feature bit that gives these bytes a meaning, 0 = none does */
		u16 from, to;
		const char *what;
	} unused[] = {
		{ 0, 224, 1020, "reserved bytes of the superblock" },
		{ 0, 1032, 1088, "reserved bytes of the superblock" },
		{ 0, 1096, 1152, "reserved bytes of the superblock" },
		{ 0, 1160, 1216, "reserved bytes of the superblock" },
		{ 0, 1224, 4096, "reserved bytes of the superblock" },
		{ DAXFS_IDENTITY, 96, 176, "identity without its feature bit" },
		{ DAXFS_BRANCHES, 176, 224, "branch fields without their feature bit" },
		{ DAXFS_BRANCHES, 1024, 1224, "branch words without their feature bit" },
		{ DAXFS_CHECKSUMS, 1020, 1024, "checksum without its feature bit" },
	};
	u32 flags = le32_to_cpu(sb->flags);
	size_t label, i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(unused) && !ret; i++)
		if (!(flags & unused[i].unless))
			ret = check_zeroes(sb, unused[i].what, unused[i].from, unused[i].to, err);
	if (ret)
		return ret;
	label = offsetof(struct daxfs_superblock, label);
	return check_zeroes(sb, "padding of the label",
			    label + strnlen((const char *)sb->label, sizeof(sb->label)),
			    label + sizeof(sb->label), err);
}

static int check_static(const struct daxfs_superblock *sb, struct daxfs_error *err)
{
	const struct {
		const char *what;
		u16 at;
		u64 value;
	} fields[] = {
		{ "offset of no branch table", 40, le64_to_cpu(sb->branch_table_offset) },
		{ "active branches", 52, le32_to_cpu(sb->active_branches) },
		{ "next branch", 56, le64_to_cpu(sb->next_branch_id) },
		{ "offset of no delta region", 72, le64_to_cpu(sb->delta_region_offset) },
		{ "size of no delta region", 80, le64_to_cpu(sb->delta_region_size) },
		{ "allocation in no delta region", 88, le64_to_cpu(sb->delta_alloc_offset) },
	};
	int ret = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields) && !ret; i++)
		ret = check_equal(fields[i].what, fields[i].at, 0, fields[i].value, err);
	return ret;
}

static u64 saturating_add(u64 a, u64 b)
{
	u64 sum;

	return check_add_overflow(a, b, &sum) ? U64_MAX : sum;
}

static int check_branch_fields(const struct daxfs_superblock *sb, struct daxfs_error *err)
{
	u32 entries = le32_to_cpu(sb->branch_table_entries);
	u64 blocks = le64_to_cpu(sb->heap_blocks);
	u64 end = saturating_add(le64_to_cpu(sb->delta_region_offset),
				 le64_to_cpu(sb->delta_region_size));
	int ret = 0;

	if (!sb->base_offset)
		ret = check_equal("size of no base image", 32, 0, le64_to_cpu(sb->base_size), err);
	if (!ret && entries)
		ret = check_equal("entries of the branch table", 48, DAXFS_BRANCH_RECORDS, entries,
				  err);
	else if (!ret)
		ret = check_static(sb, err);
	if (ret || !(le32_to_cpu(sb->flags) & DAXFS_BRANCHES))
		return ret;

	ret = check_equal("entries of the branch table", 48, DAXFS_BRANCH_RECORDS, entries, err) ?:
	      check_equal("active branches", 52, 0, le32_to_cpu(sb->active_branches), err) ?:
	      check_equal("next branch", 56, 0, le64_to_cpu(sb->next_branch_id), err) ?:
	      check_equal("entries of the opener table", 192, DAXFS_OPENER_ENTRIES,
			  le32_to_cpu(sb->opener_table_entries), err) ?:
	      check_equal("end of allocation", 88, end, le64_to_cpu(sb->delta_alloc_offset), err);
	if (ret)
		return ret;
	if (le32_to_cpu(sb->reserve_slots) >= DAXFS_BRANCH_RECORDS)
		return daxfs_corrupt(err, "reserved slots", 196, "expected below 256, found %u",
				     le32_to_cpu(sb->reserve_slots));
	if (le64_to_cpu(sb->reserve_blocks) > blocks)
		return daxfs_corrupt(err, "reserved blocks", 216, "expected at most %llu, found %llu",
				     (unsigned long long)blocks,
				     (unsigned long long)le64_to_cpu(sb->reserve_blocks));
	return 0;
}

/* Every span on a block, inside @whole, and apart from the others. */
static int check_spans(const struct daxfs_span *spans, int count, struct daxfs_span whole,
		       struct daxfs_error *err)
{
	u64 limit = saturating_add(whole.offset, whole.size);
	int i, j;

	for (i = 0; i < count; i++) {
		const struct daxfs_span *span = &spans[i];
		u64 end;

		if (span->offset % DAXFS_BLOCK_SIZE)
			return daxfs_corrupt(err, span->name, span->offset,
					     "expected a block boundary");
		if (span->offset < whole.offset ||
		    check_add_overflow(span->offset, span->size, &end) || end > limit)
			return daxfs_corrupt(err, span->name, span->offset,
					     "expected inside the %s (%#llx to %#llx), found %#llx bytes",
					     whole.name, (unsigned long long)whole.offset,
					     (unsigned long long)limit,
					     (unsigned long long)span->size);
	}
	for (i = 0; i < count; i++)
		for (j = 0; j < count; j++) {
			const struct daxfs_span *a = &spans[i], *b = &spans[j];

			if (i != j && a->size && b->size && a->offset <= b->offset &&
			    a->offset + a->size > b->offset)
				return daxfs_corrupt(err, b->name, b->offset,
						     "expected apart from the %s, found an overlap",
						     a->name);
		}
	return 0;
}

static u64 saturating_mul(u64 a, u64 b)
{
	u64 product;

	return check_mul_overflow(a, b, &product) ? U64_MAX : product;
}

/* Checks everything that the superblock alone can prove, for a region of @len bytes. */
int daxfs_superblock_check(const struct daxfs_superblock *sb, u64 len, struct daxfs_error *err)
{
	struct daxfs_span whole = { "image", 0, le64_to_cpu(sb->total_size) };
	struct daxfs_span delta = { "delta region", le64_to_cpu(sb->delta_region_offset),
				    le64_to_cpu(sb->delta_region_size) };
	struct daxfs_span spans[4] = { { "superblock", 0, DAXFS_BLOCK_SIZE } };
	u64 blocks = le64_to_cpu(sb->heap_blocks);
	struct daxfs_span parts[3] = {
		{ "owner map", le64_to_cpu(sb->owner_map_offset),
		  saturating_mul(blocks, sizeof(__le64)) },
		{ "opener table", le64_to_cpu(sb->opener_table_offset),
		  DAXFS_OPENER_ENTRIES * sizeof(struct daxfs_opener_entry) },
		{ "heap", le64_to_cpu(sb->heap_offset), saturating_mul(blocks, DAXFS_BLOCK_SIZE) },
	};
	u32 flags = le32_to_cpu(sb->flags), sum;
	int count = 1, ret;

	ret = check_equal("block size", 12, DAXFS_BLOCK_SIZE, le32_to_cpu(sb->block_size), err);
	if (ret)
		return ret;
	if (whole.size > len)
		return daxfs_corrupt(err, "total size", 16,
				     "expected at most the %llu bytes that are there, found %llu",
				     (unsigned long long)len, (unsigned long long)whole.size);
	if (flags & DAXFS_CHECKSUMS) {
		/* The next inode number changes while an image is used. */
		sum = daxfs_crc32c(0, sb, NEXT_AT);
		sum = daxfs_crc32c(sum, (const u8 *)sb + NEXT_AT + 8, SUM_AT - NEXT_AT - 8);
		ret = check_equal("checksum of the superblock", SUM_AT, sum,
				  le32_to_cpu(sb->checksum), err);
	}
	ret = ret ?: check_reserved(sb, err) ?: check_branch_fields(sb, err);
	if (ret)
		return ret;

	if (sb->branch_table_entries) {
		spans[count].name = "branch table";
		spans[count].offset = le64_to_cpu(sb->branch_table_offset);
		spans[count++].size = (u64)le32_to_cpu(sb->branch_table_entries) *
				      sizeof(struct daxfs_branch_record);
	}
	if (sb->base_offset) {
		spans[count].name = "base image";
		spans[count].offset = le64_to_cpu(sb->base_offset);
		spans[count++].size = le64_to_cpu(sb->base_size);
	}
	if (delta.size)
		spans[count++] = delta;
	ret = check_spans(spans, count, whole, err);
	if (!ret && (flags & DAXFS_BRANCHES))
		ret = check_spans(parts, ARRAY_SIZE(parts), delta, err);
	return ret;
}
