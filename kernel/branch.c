// SPDX-License-Identifier: GPL-2.0
/*
 * The branch table, as far as a reader of the base tree must know it: whether main is still that
 * tree. Branches that are not committed leave it alone.
 */
#include "engine.h"

static int refuse(struct daxfs_error *err, u64 at, const char *why)
{
	return daxfs_fail(err, EOPNOTSUPP, "branches", at,
			  "%s; the kernel reads base trees only, mount the image with FUSE", why);
}

static bool is_main(const struct daxfs_branch_record *record)
{
	return !strncmp((const char *)record->name, "main", sizeof(record->name));
}

int daxfs_branches_untouched(const struct daxfs_region *region, const struct daxfs_superblock *sb,
			     struct daxfs_error *err)
{
	bool ours = le32_to_cpu(sb->flags) & DAXFS_BRANCHES;
	const u64 head_at = offsetof(struct daxfs_superblock, head);
	struct daxfs_branch_record record;
	u32 slot, slots;
	__le64 head = 0;
	int ret;

	if (ours) {
		/* As it is now, which need not be as it was when the image was opened. */
		ret = daxfs_region_read(region, head_at, &head, sizeof(head), err);
		if (ret)
			return ret;
		if (le64_to_cpu(head) != DAXFS_MAIN_ID)
			return refuse(err, head_at, "a branch has been committed");
	}
	/* In ours, main's first record is in the first slot. */
	slots = min_t(u32, le32_to_cpu(sb->branch_table_entries), ours ? 1 : DAXFS_BRANCH_RECORDS);
	for (slot = 0; slot < slots; slot++) {
		u64 at = le64_to_cpu(sb->branch_table_offset) + slot * sizeof(record);

		ret = daxfs_region_read(region, at, &record, sizeof(record), err);
		if (ret)
			return ret;
		switch (le32_to_cpu(record.state)) {
		case DAXFS_BRANCH_ACTIVE:
			if (ours && le64_to_cpu(record.branch_id) != DAXFS_MAIN_ID)
				return daxfs_corrupt(err, "head", head_at, "its record is another's");
			/* A parent's changes would be main's, too. */
			if ((record.delta_log_size || record.parent_id) &&
			    (ours || is_main(&record)))
				return refuse(err, at, "main has changes of its own");
			break;
		case DAXFS_BRANCH_COMMITTED:
			return refuse(err, at, "a branch has been committed");
		case DAXFS_BRANCH_FREE:
		case DAXFS_BRANCH_ABORTED:
			if (!ours)
				break;
			fallthrough;
		default:
			return daxfs_corrupt(err, "state of a branch", at + 40, "found %u",
					     le32_to_cpu(record.state));
		}
	}
	return 0;
}
